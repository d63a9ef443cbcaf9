"""TensorBoard's event files of runs: where they are, and links to them under names that say what varies.

TensorBoard calls a run by the folder of its event files: ``optimizer=sgd,seed=0/tensorboard``. Given a folder of links
instead, it calls it ``sgd seed=0``.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from cnnbench.config.groups import groups
from cnnbench.utils.errors import RequestError

PATTERN = "events.out.tfevents.*"
SUBFOLDER = "tensorboard"  # of a run's folder


def delete_event_files(folder: Path) -> None:
    """Delete those of an attempt that left no checkpoint: the run begins anew, and so do its curves."""
    for path in folder.rglob(PATTERN):
        path.unlink()


def find_event_folders(top: Path) -> list[Path]:
    """The folders with event files, in the order of their paths."""
    return sorted({path.parent for path in top.rglob(PATTERN)})


def link_runs(links: Path, folders: Sequence[Path]) -> None:
    """Add a link to ``links`` for each run below ``folders`` that has none yet.

    Raises:
        RequestError: this system makes no links.
    """
    for name, folder in name_runs(folders).items():
        link = links / name
        if link.is_symlink():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(folder.resolve(), target_is_directory=True)
        except OSError as error:
            raise RequestError(f"cannot make links ({error.strerror}); tensorboard --logdir DIR needs none") from error


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders with event files by the name that each is to have: unique, and relative to the one of ``folders``
    that it is in."""
    named: dict[str, Path] = {}
    for top in folders:
        for path in find_event_folders(top):
            run = path.parent if path.name == SUBFOLDER else path
            above = run.resolve().relative_to(top.resolve()).parts
            prefix = [top.resolve().name] if len(folders) > 1 and above else []
            name = wanted = "/".join([*prefix, *above[:-1], short_name(run.resolve().name)])
            number = 1
            while name in named:
                number += 1
                name = f"{wanted} ({number})"
            named[name] = path
    return named


def short_name(folder: str) -> str:
    """``adam seed=0 norm=batch`` for ``optimizer=adam,seed=0,model.norm=batch``, as a sweep names its folders; other
    names stay as they are."""
    pairs = [text.partition("=")[::2] for text in re.split(r",(?![^[]*])", folder)]  # a comma in a list stays
    if not all(value for _, value in pairs):
        return folder
    leaves = [key.lstrip("+").rpartition(".")[2] for key, _ in pairs]
    words = [
        value if key in groups() else f"{leaf if leaves.count(leaf) == 1 else key}={value}"
        for (key, value), leaf in zip(pairs, leaves, strict=True)
    ]
    return " ".join(words)
