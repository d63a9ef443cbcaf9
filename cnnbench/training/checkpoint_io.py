"""Checkpoint files: written whole, the one before kept, and damage noticed."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cnnbench.utils.memory import is_out_of_memory

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes beside the target and renames, so that a kill leaves the old file or the new one, never a part.

    What ``last.ckpt`` was is kept as ``previous.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Replace ``path``; torch's file has a CRC of every part of it, which ``read`` checks.

        Raises:
            OSError: there is no room, or no right, to write it; what was there is as it was.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        try:
            torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch's writer says nothing of the reason
            temporary.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free
            raise OSError(f"{path} could not be written; {free / 1e6:,.1f} MB are free there") from error
        if path.name == LAST and path.exists():
            link(path, path.with_name(PREVIOUS))
        os.replace(temporary, path)


def link(source: Path, target: Path) -> None:
    """Let ``target`` be what ``source`` is now; where the file system has links no byte is copied, and a later
    ``source`` is another file."""
    temporary = target.with_suffix(".link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU, without executing code.

    Raises:
        ValueError: the file is damaged; the message says how.
        OSError, MemoryError: it cannot be read now, which says nothing of the file.
        RuntimeError: it is whole, but holds what cannot be loaded without executing code.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":  # zipfile looks for its end only, torch at its start too
                raise ValueError("it does not begin as one")
        with zipfile.ZipFile(path) as parts:
            if (wrong := parts.testzip()) is not None:
                raise ValueError(f"{wrong} in it has changed")
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a wrong offset in it gives
            raise
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())})") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RuntimeError(f"{path} holds what is not loaded, for that could execute code: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever else torch makes of it
        if is_out_of_memory(error):
            raise MemoryError(f"no room in memory to read {path}") from error
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())})") from error


def newest(folder: Path, tell: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint of a run, and what it holds; None where the run has to start at its beginning.

    Args:
        folder: ``checkpoints/`` of the run. What is damaged is renamed, to ``last.ckpt.damaged``; where nothing can be
            used, so is ``best.ckpt``, which a new start would take for its own.
        tell: is given a line for each damaged file.

    Raises:
        OSError, MemoryError: a checkpoint cannot be read now; nothing is renamed.
    """
    for path in (folder / LAST, folder / PREVIOUS):
        try:
            found = path, read(path)
        except FileNotFoundError:
            continue
        except ValueError as error:
            tell(f"{error}; kept as {_set_aside(path).name}")
            continue
        if path.name == PREVIOUS:
            tell(f"going on from {path}, the checkpoint before")
        return found
    for path in folder.glob("*"):
        if path.suffix in (".new", ".link"):
            path.unlink()
        elif path.suffix == ".ckpt":
            _set_aside(path)
    return None


def _set_aside(path: Path) -> Path:
    return path.replace(path.with_name(f"{path.name}.damaged"))
