"""The study of a search as its runs and its sweeper share it: storage, pruner and trials. Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

STUDY = "search"


def open_storage(path: str | Path) -> optuna.storages.BaseStorage:
    """The storage of a study: a journal, which several machines may write to over a network's file system."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))


def make_pruner(name: str, startup_trials: int, epochs: int) -> optuna.pruners.BasePruner:
    """``median`` prunes a trial whose best is below the median of the others' at that epoch, ``halving`` all but the
    best half at each rung (asynchronous; Li et al. 2020), ``wilcoxon`` one that over seeds, not epochs, is probably
    worse than the best (Wilcoxon 1945), ``none`` none; median and halving none of the first ``startup_trials``."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(startup_trials, n_warmup_steps=epochs // 4)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=max(epochs // 8, 1))
    return pruners.WilcoxonPruner() if name == "wilcoxon" else pruners.NopPruner()


def find_trial(study: optuna.Study, storage: optuna.storages.BaseStorage, number: int) -> optuna.Trial:
    """The trial of this number, which may have been begun by another process."""
    import optuna

    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def load_trial(number: int, storage: str, pruner: str, startup_trials: int, epochs: int) -> optuna.Trial | None:
    """A run's own trial, by what ``sweep.trial`` says of it; None where that has ended, or its study is not there."""
    import optuna

    if not Path(storage).exists():
        return None
    opened = open_storage(storage)
    study = optuna.load_study(study_name=STUDY, storage=opened, pruner=make_pruner(pruner, startup_trials, epochs))
    return None if study.trials[number].state.is_finished() else find_trial(study, opened, number)
