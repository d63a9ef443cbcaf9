"""cnnbench: does this change to a CNN's training help, by how much, and can I trust that?

The map, from the command line down; a package imports only from those below it.

============== =======================================================================================================
``cli``        the commands, one file each: arguments in, exit status out; ``api`` is the same from Python
``sweep``      plan a grid or a search, run each of its runs in a process of its own
``inference``  a finished run as a network: load, predict, export
``training``   from a configuration to the record of one run; ``callbacks`` and ``figures`` are parts of it
``analysis``   from records to statistics, leaderboard, ``report`` and published ``studies``
``data``       sources, decoded cache, augmentation, batches, DataModule
``models``     architectures, one family a file, and their weights (torch alone)
``config``     groups, overrides, composition, the schema of every key, settings, fingerprints, trusted targets
``utils``      errors, console, record, run folder, environment, signals, memory
============== =======================================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.api import load_results, train
    from cnnbench.inference.load import load_run

__all__ = ["load_results", "load_run", "train"]


def __getattr__(name: str) -> Any:
    """The three functions, imported when they are first used: torch takes two seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("cnnbench.inference.load" if name == "load_run" else "cnnbench.api"), name)
