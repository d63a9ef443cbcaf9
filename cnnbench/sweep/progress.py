"""One line for a sweep whose runs go on beside each other: done, running, failed, time left, best so far.

It is read from the runs' folders, so it is the same for any launcher, on this machine or on others.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.analysis.metric_names import higher_is_better, number, title, unit
from cnnbench.analysis.runs import PRUNED
from cnnbench.sweep.background import alongside
from cnnbench.utils.console import duration, print_info, print_result
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record
from cnnbench.utils.run_dir import started_at

# Between two looks at the folders: seconds, and how often the last look's time, which thousands of runs make long.
LOOK, REST = 0.5, 20
# In a file: seconds between two lines where a run has begun or ended since, and where none has, which grows with time.
QUIET, QUIETER, SHARE = 5.0, 30.0, 0.05
EPOCHS = "metrics.csv"
TICK = 0.02  # seconds that a file's time may be behind the clock


@dataclass
class Progress:
    """What the folders of a sweep's runs say.

    Args:
        folders: lists those of the runs that are to be done now.
        total: how many runs there will be; None where nobody knows.
        objective: the metric that tells the best.
        epochs: that a run trains.
        since: runs that ended before are not of now; seconds since the epoch.
    """

    folders: Callable[[], Sequence[Path]]
    total: int | None
    objective: str
    epochs: int
    since: float = field(default_factory=lambda: time.time() - TICK)
    ended: dict[Path, Record] = field(default_factory=dict)
    running: dict[Path, float] = field(default_factory=dict)  # with the share of its epochs that is done

    def look(self) -> list[Path]:
        """Read what has changed; returns the folders of the runs that have ended since the last look."""
        news = []
        self.running = {}
        for folder in self.folders():
            if folder in self.ended:
                continue
            if (record := self._record(folder)) is not None:
                self.ended[folder] = record
                news.append(folder)
            elif (started_at(folder) or 0) >= self.since:
                self.running[folder] = min(_lines(folder / EPOCHS) / self.epochs, 1.0)
        return news

    def _record(self, folder: Path) -> Record | None:
        try:
            return read_record(folder) if (folder / RECORD_FILE).stat().st_mtime >= self.since else None
        except (OSError, RecordError):
            return None

    @property
    def failed(self) -> int:
        """Runs that have ended, but not as they should."""
        return sum(record["status"] in ("failed", "diverged") for record in self.ended.values())

    @property
    def interrupted(self) -> int:
        """Runs that were asked to stop."""
        return sum(record["status"] == "interrupted" for record in self.ended.values()) - self.pruned

    @property
    def pruned(self) -> int:
        """Runs that their search has ended."""
        return sum((record.get("error") or {}).get("type") == PRUNED for record in self.ended.values())

    def seconds_left(self) -> float | None:
        """From the time that what is done has taken; None before there is anything to go by."""
        done = len(self.ended) + sum(self.running.values())
        if self.total is None or not done:
            return None
        return (time.time() - self.since) * (self.total - done) / done

    def best(self) -> tuple[float, Path] | None:
        """The best value of the objective among the completed runs, and the run's folder."""
        values = [
            (record["best"][self.objective], folder)
            for folder, record in self.ended.items()
            if record["status"] == "completed" and (record.get("best") or {}).get(self.objective) is not None
        ]
        if not values:
            return None
        return (max if higher_is_better(self.objective) else min)(values, key=lambda item: item[0])

    def line(self, width: int | None = None) -> str:
        """``4/6 done, 2 running, 1 failed | 12 s left | best validation accuracy 98.33 % (optimizer=adam)``; cut to
        ``width`` characters, of the best run's name first."""
        done = len(self.ended) - self.interrupted
        counts = [f"{done}{'' if self.total is None else f'/{self.total}'} done"]
        for count, what in (
            (len(self.running), "running"),
            (self.failed, "failed"),
            (self.pruned, "ended early"),
            (self.interrupted, "interrupted"),
        ):
            counts += [f"{count} {what}"] * bool(count)
        parts = [", ".join(counts)]
        left = self.seconds_left()
        if left is not None and self.total is not None and len(self.ended) < self.total:
            parts.append(f"{duration(left)} left")
        if (best := self.best()) is not None:
            value, folder = best
            parts.append(
                f"best {title(self.objective)} {number(value, self.objective)}{unit(self.objective)} ({folder.name})"
            )
        line = " | ".join(parts)
        if width is None or len(line) <= width:
            return line
        start = line.rfind(" (")  # a name that would be a few letters is left out
        if best is None or width - start < 8:
            return line[: min(width, start) if best is not None else width]
        return f"{line[: width - 2]}…)"


def pause(took: float) -> float:
    """Seconds until the next look at the folders after one that ``took`` so long."""
    return max(LOOK, REST * took)


def told(progress: Progress) -> AbstractContextManager[None]:
    """Within this, tell the progress: on a terminal in one line that changes, in a file in a line now and then."""
    live = sys.stdout.isatty()

    def follow(done: threading.Event) -> None:
        shown, counts, last, ending, took = "", "", progress.since, False, 0.0
        while not ending:
            ending = done.wait(pause(took))
            start = time.monotonic()
            news = progress.look()
            took = time.monotonic() - start
            for folder in news:
                if (record := progress.ended[folder])["status"] != "completed":
                    error = record.get("error") or {}
                    text = f"  {record['status']}: {folder.name}: {error.get('type')}: {error.get('message')}"
                    print_result(f"\r{text:<{len(shown)}}" if live else text)
            width = shutil.get_terminal_size().columns - 3 if live else None  # a longer line could not be written over
            line, now = f"  {progress.line(width)}", time.time()
            if live:
                print_info(f"\r{line:<{len(shown)}}", end="\n" if ending else "")
                shown = line
            else:
                wait = QUIET if line.partition("|")[0] != counts else max(QUIETER, SHARE * (now - progress.since))
                if now - last >= wait or (ending and line != shown):
                    print_info(line)
                    shown, counts, last = line, line.partition("|")[0], now

    return alongside(follow, "progress")


def _lines(path: Path) -> int:
    """Rows of a CSV file, 0 where there is none."""
    try:
        return max(path.read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0
