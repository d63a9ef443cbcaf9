"""What a source of images is, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass
class Split:
    """One part of a set: ``images`` are uint8 arrays (N, H, W) or (N, H, W, C), or file paths; ``labels`` are (N,)."""

    images: np.ndarray | Sequence[Path]
    labels: np.ndarray


@dataclass
class ImageSet:
    """What a source reads: named splits (train, test and perhaps val) and the class names in the order of the labels."""

    splits: dict[str, Split]
    classes: list[str]
    channels: int
    skip_damaged: bool = False  # whether files that do not decode are left out; otherwise they are an error


def one_line(error: Exception) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class Source(Protocol):
    """A kind of dataset; ``location`` is the folder or file that holds it, where it needs one."""

    def identity(self, location: Path | None) -> dict[str, Any]:
        """The key of the prepared set: changes when what would be read changes. Raises RequestError if the set
        is not there."""
        ...

    def read(self, location: Path | None) -> ImageSet:
        """Read everything but encoded image files, which the cache decodes."""
        ...
