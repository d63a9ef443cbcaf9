"""Checkpoint files: written whole, the one before kept, and damage noticed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cnnbench.utils.torch_files import DamagedFileError, is_torch_zip, read_torch_file

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a kill or a full disk (OSError) leaves the old file or the new one,
    never a part; what ``last.ckpt`` was is kept as ``previous.ckpt``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        try:
            torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch's writer says nothing of the reason
            temporary.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free
            raise OSError(f"{path} could not be written; {free / 1e6:,.1f} MB are free there") from error
        _replace(temporary, path)

    def load_checkpoint(self, path: str | os.PathLike, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As ``read``, whatever Lightning or the environment says of ``weights_only``."""
        return read(Path(path))


def link(source: Path, target: Path) -> None:
    """Let ``target`` be what ``source`` is now: a hard link, or a copy where the file system has none."""
    temporary = target.with_suffix(".link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    _replace(temporary, target)


def _replace(temporary: Path, target: Path) -> None:
    if target.name == LAST and target.exists():
        link(target, target.with_name(PREVIOUS))
    os.replace(temporary, target)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, which has checksums, on the CPU; raises what ``read_torch_file`` does."""
    if not is_torch_zip(path):
        raise DamagedFileError(f"{path} is damaged (it does not begin as a checkpoint)")
    return read_torch_file(path)


def newest(folder: Path, notify: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint in the folder, and what it holds; None where the run has to start at its beginning.
    What is damaged is renamed, to ``last.ckpt.damaged``, and ``notify`` gets a line; where nothing can be used, so is
    ``best.ckpt``, which a new start would take for its own. Raises OSError or MemoryError where it cannot read now."""

    def set_aside(path: Path) -> Path:
        return path.replace(path.with_name(f"{path.name}.damaged"))

    for path in (folder / LAST, folder / PREVIOUS):
        try:
            checkpoint = read(path)
            if path.name == PREVIOUS:
                notify(f"going on from {path}, the checkpoint before")
            return path, checkpoint
        except FileNotFoundError:
            continue
        except DamagedFileError as error:
            notify(f"{error}; kept as {set_aside(path).name}")
    for path in folder.glob("*"):
        if path.suffix in (".new", ".link"):
            path.unlink()
        elif path.suffix == ".ckpt":
            set_aside(path)
    return None
