"""What a run imports sooner or later, for the server that runs are forked from (``cnnbench.sweep.isolate``)."""

import torch.utils.flop_counter
import torch.utils.tensorboard  # noqa: F401

from cnnbench.environment import code_version

code_version()  # asks git, once for all runs
