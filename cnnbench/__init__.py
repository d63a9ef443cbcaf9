"""cnnbench: does this change to a CNN's training help, by how much, and can I trust that?

The map, from the command line down. Imports go one way, from top to bottom, and only ``__main__``, ``api``, ``launch``,
``plan``, ``sweep``, ``again``, ``training``, ``preflight``, ``build``, ``config`` and ``listing`` know Hydra and
OmegaConf.

==================  ===================================================================================
``__main__``        the command line: train (the default), report, reproduce, resume, rerun, predict, export ...
``api``             the same from Python: ``train``, ``load_results``
``launch``          one run or many through Hydra: run what ``plan`` left, leaderboard, exit status
``plan``            what is asked for, checked: folder, cells, what is left to do
``again``           ``resume`` and ``rerun``
``sweep``           the cells of a sweep and what is left of them, one run, runs in processes of their own
``studies``         published studies: rows, claims, ``reproduce``
``predict``         the verb; ``saved`` has ``load_run``: a finished run as a network to use
``export``          the verb; ``programs`` has ONNX and torch.export: a finished run without cnnbench
``browse``          the verb ``tensorboard``: TensorBoard over runs, each called by what varies
``find_lr``         the verb; ``lr_finder`` has the range test
``config``          composing, sweeping and fingerprinting configurations (``conf/``)
``trust``           what a saved configuration may build
``values``          which values the keys of a configuration may have
``listing``         what ``cnnbench list`` prints
``training``        ``train(config, folder)``: the checklist from a configuration to a record
``followers``       the other processes of a run on several devices
``machines``        those on other machines, which torchrun has started
``hparams``         what TensorBoard's HPARAMS tab shows of a run
``claim``           one process at a time in a run's folder, and no finished record overwritten
``room``            which batch size would fit, where there was no room in memory
``checkpoints``     checkpoint files: written whole, damage noticed
``stopping``        Ctrl-C and SIGTERM: once is a request
``preflight``       everything that a configuration names, built once before anything runs
``build``           from nodes of the configuration to data, network, classifier, trainer
``classifier``      ``ImageClassifier``, the LightningModule: loss, optimizer steps, metrics
``distributed``     what the processes of a run on several devices share: batches, gradients, metrics
``captured``        on a GPU, the training step as one CUDA graph
``callbacks``       history, checkpoints, resuming, divergence, early stopping, figures, TensorBoard, progress
``data``            sources, the prepared store, splits, batches, the LightningDataModule
``results``         records on disk, and what they say together: leaderboard, statistics, report
``models``          architectures, one family a file             (leaf: torch alone)
``augment``         augmentation and normalisation of batches    (leaf)
``fine_tune``       which layer is the classifier, frozen others (leaf)
``modes``           a network in eval mode for a while            (leaf)
``network_graph``   layers and what flows, for TensorBoard       (leaf)
``metrics``         accuracy and recall from a confusion matrix  (leaf)
``optim``           parameter groups, a switch of optimizers     (leaf)
``schedulers``      what torch lacks                             (leaf)
``quirks``          what published reports did otherwise         (leaf)
``figures``         figures of one run                           (leaf)
``summary``         what is told of one run, when it starts and when it ends
``terminal``        how the person is told, and how much         (leaf)
``memory``          the allocator and collector of a process     (leaf)
``environment``     versions, code and hardware, for the record  (leaf)
``arguments``       how a verb's options are parsed              (leaf)
``errors``          ``RequestError``, and did-you-mean           (leaf)
==================  ===================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.api import load_results, train
    from cnnbench.saved import load_run

__all__ = ["load_results", "load_run", "train"]


def __getattr__(name: str) -> Any:
    """The three functions, imported when they are first used: torch takes two seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("cnnbench.saved" if name == "load_run" else "cnnbench.api"), name)
