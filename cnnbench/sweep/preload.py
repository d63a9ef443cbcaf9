"""Imports all that a run needs, for the server that runs are forked from (``cnnbench.sweep.process``)."""

import atexit
import os
from importlib import import_module

from cnnbench.utils.memory import no_gc_during_import
from cnnbench.utils.signals import block_signals

MODULES = (  # by name, for a linter takes away an import whose name is not used
    "cnnbench.training.train",
    "cnnbench.sweep.pool",  # with it, every run of a sweep is of the code that was there at its start
    "cnnbench.training.figures",
    "cnnbench.models",
    "cnnbench.training.schedulers",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
)
atexit.register(os._exit, 0)  # the server has nothing to clean up; taking torch apart takes long
block_signals()  # first: a thread that an import starts inherits the mask
with no_gc_during_import():
    for name in MODULES:
        import_module(name)
import_module("cnnbench.utils.environment").code_version()  # asks git, once for all runs
