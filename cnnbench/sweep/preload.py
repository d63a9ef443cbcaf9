"""What a run imports sooner or later, for the server that runs are forked from (``cnnbench.sweep.isolate``)."""

from importlib import import_module

from cnnbench.environment import code_version
from cnnbench.stopping import hold_back

MODULES = (  # by name: an import whose name is not used is one that a linter takes away
    "cnnbench.training",
    "cnnbench.sweep.isolate",  # with it, every run of a sweep is of the code that was there at its start
    "cnnbench.figures",
    "cnnbench.models",
    "cnnbench.schedulers",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
)
hold_back()  # before the imports, whose threads would be told instead
for name in MODULES:
    import_module(name)
code_version()  # asks git, once for all runs
