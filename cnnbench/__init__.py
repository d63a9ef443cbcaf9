"""cnnbench: does this change to a CNN's training help, by how much, and can I trust that?

The map, from the command line down. Imports go one way, from top to bottom, and only ``__main__``, ``launch``,
``sweep``, ``again``, ``train``, ``preflight``, ``build``, ``config`` and ``listing`` know Hydra and OmegaConf.

==================  ===================================================================================
``__main__``        the command line: train (the default), report, reproduce, resume, rerun, predict, list ...
``launch``          one run or many through Hydra: check all, run, leaderboard, exit status
``again``           ``resume`` and ``rerun``
``sweep``           the cells of a sweep and what is left of them, one run, runs in processes of their own
``config``          composing, sweeping, checking and fingerprinting configurations (``conf/``)
``listing``         what ``cnnbench list`` prints
``train``           ``train(config, folder)``: the checklist from a configuration to a record
``claim``           one process at a time in a run's folder, and no finished record overwritten
``checkpoints``     checkpoint files: written whole, damage noticed
``stopping``        Ctrl-C and SIGTERM: once is a request
``preflight``       everything that a configuration names, built once before anything runs
``build``           from nodes of the configuration to data, network, classifier, trainer
``classifier``      ``ImageClassifier``, the LightningModule: loss, optimizer steps, metrics
``captured``        on a GPU, the training step as one CUDA graph
``callbacks``       history, checkpoints, resuming, divergence, early stopping, figures, progress
``data``            sources, the prepared store, splits, batches, the LightningDataModule
``results``         records on disk, and what they say together: leaderboard, statistics, report
``models``          architectures, one family a file             (leaf: torch alone)
``augment``         augmentation and normalisation of batches    (leaf)
``fine_tune``       which layer is the classifier, frozen others (leaf)
``metrics``         accuracy and recall from a confusion matrix  (leaf)
``optim``           parameter groups, a switch of optimizers     (leaf)
``schedulers``      what torch lacks                             (leaf)
``figures``         figures of one run                           (leaf: matplotlib alone)
``memory``          glibc's allocator, told to keep memory       (leaf)
``environment``     versions, code and hardware, for the record  (leaf)
``errors``          ``RequestError``, and did-you-mean           (leaf)
==================  ===================================================================================
"""
