"""How far a long preparation is: a live line on a terminal, else a line now and then, which a log can keep."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

LIVE_SECONDS = 0.2  # between two updates of the live line
LINE_SECONDS = 5.0  # between two lines that stay
BAR = 30  # characters


class Preparing:
    """A context around the preparation, called with the number of images done; a short one says nothing.

    Args:
        title: of what is prepared; total: how many images it has.
        tell: gets the lines that stay; live: whether standard error is a terminal, for the live line.
    """

    def __init__(self, title: str, total: int, tell: Callable[[str], None], live: bool) -> None:
        self.title, self.total, self.tell, self.live = title, total, tell, live
        self._start = self._told = time.monotonic()
        self._shown = False

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told < (LIVE_SECONDS if self.live else LINE_SECONDS):
            return
        self._told, self._shown = now, True
        left = (now - self._start) / done * (self.total - done)
        line = f"{done:,} of {self.total:,} images, {left:.0f} s left"
        if self.live:
            bar = "#" * (BAR * done // self.total)
            sys.stderr.write(f"\r\033[Kpreparing {self.title} [{bar:{BAR}}] {line}")
            sys.stderr.flush()
        else:
            self.tell(f"preparing {self.title}: {line}")

    def __enter__(self) -> Preparing:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if self.live and self._shown:
            sys.stderr.write("\r\033[K")
        if failed is None and self._shown:
            self.tell(f"prepared {self.title}: {self.total:,} images in {time.monotonic() - self._start:.0f} s")
