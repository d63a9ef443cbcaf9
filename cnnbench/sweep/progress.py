"""What a sweep shows while it runs. Parallel runs share a line: tqdm's on a terminal, in a file one now and then."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from cnnbench.analysis.metric_names import higher_is_better, number, title, unit
from cnnbench.analysis.runs import PRUNED
from cnnbench.sweep.run_summary import ending
from cnnbench.utils.console import duration, is_quiet, print_info, print_result
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record
from cnnbench.utils.run_dir import started_at

POLL, POLL_FACTOR = 0.5, 20  # between two looks at folders: seconds, and how often the last look's time
# In a file: seconds between two lines where a run has begun or ended since, and where none has, which grows with time.
CHANGED, UNCHANGED, SHARE = 5.0, 30.0, 0.05
TICK = 0.02  # seconds that a file's time may be behind the clock


class Progress:
    """Counts the runs of a sweep, of which there will be ``total``, and shows how many have ended and the best so far;
    of runs ``in_turn``, which print their own course, only how each ended."""

    def __init__(self, total: int, objective: str, in_turn: bool = False) -> None:
        self.total, self.objective, self.in_turn, self.began = total, objective, in_turn, time.time()
        self.running: dict[Path, float] = {}  # and when each began
        self.at_once, self.took = 0, list[float]()  # the most of them so far, and seconds of those that have ended
        self.statuses: list[str] = []
        self.values: list[tuple[float, str]] = []  # of the objective, with the names of their runs
        shows_bar = sys.stdout.isatty() and not is_quiet() and not in_turn
        self.stop_on_failure: int | None = None  # failures in a row after which no more runs are to be started
        self.stop_file: Path | None = None  # made then, for workers of another launcher
        self.failures: list[str] = []  # in a row, the last ones
        self._bar = tqdm(total=total, bar_format="  {desc}", disable=not shows_bar, file=sys.stdout)
        self._shown, self._shown_at = "", self.began

    def start(self, folder: Path, title: str = "", at: float | None = None) -> None:
        """A run has begun, now or ``at`` a time in seconds since 1970."""
        if self.in_turn:
            print_info(f"\n{title}")
        self.running[folder] = at or time.time()
        self.at_once = max(self.at_once, len(self.running))
        self.show()

    def end(self, folder: Path, record: Record) -> None:
        """A run has ended; of parallel ones, one that has not completed is printed at once."""
        error = record.get("error") or {}
        status, reason = record["status"], f"{error.get('type')}: {error.get('message')}"
        if status == "completed":
            self.failures.clear()
        elif status == "failed" and error.get("type") != PRUNED:
            self.failures.append(reason)
        if self.has_given_up() and self.stop_file is not None:
            self.stop_file.touch()
        if self.in_turn:
            print_result(ending(record, folder, short=True))
            return
        self.statuses.append("ended early" if error.get("type") == PRUNED else status)
        if (began := self.running.pop(folder, None)) is not None and self.statuses[-1] != "interrupted":
            self.took.append(time.time() - began)
        if status != "completed":
            self._bar.clear()
            print_result(f"  {status}: {folder.name}: {reason}")
        elif (value := (record.get("best") or {}).get(self.objective)) is not None:
            self.values.append((value, folder.name))
        self.show()

    def has_given_up(self) -> bool:
        """Whether so many runs in a row have failed that the rest is not to be started."""
        return self.stop_on_failure is not None and len(self.failures) >= self.stop_on_failure

    def seconds_left(self) -> float:
        """Until all have ended, if each takes as long as those that have ended did on average, and as many run at once as
        so far; 0 where that cannot be said: none that was seen to begin has ended, or all that run have taken longer."""
        if not self.took:
            return 0.0
        each, now = fmean(self.took), time.time()
        waiting = self.total - len(self.statuses) - len(self.running)
        of_running = sum(max(began + each - now, 0.0) for began in self.running.values())
        return (waiting * each + of_running) / max(min(self.at_once, waiting + len(self.running)), 1)

    def line(self) -> str:
        """``4/6 done, 2 running, 1 failed | 12 s left | best validation accuracy 98.33 % (optimizer=adam)``."""
        count = self.statuses.count
        done = len(self.statuses) - count("interrupted")
        counts = {"running": len(self.running), "failed": count("failed") + count("diverged")}
        counts |= {kind: count(kind) for kind in ("ended early", "interrupted")}
        parts = [", ".join([f"{done}/{self.total} done", *(f"{n} {name}" for name, n in counts.items() if n)])]
        if (left := self.seconds_left()) > 0:
            parts.append(f"{duration(left)} left")
        if self.values:
            choose = max if higher_is_better(self.objective) else min
            value, name = choose(self.values, key=lambda item: item[0])
            parts.append(f"best {title(self.objective)} {number(value, self.objective)}{unit(self.objective)} ({name})")
        return " | ".join(parts)

    def show(self, last: bool = False) -> None:
        """Bring the line up to date; in a file only where it has changed and some time has passed, or at the end."""
        if self.in_turn:
            return
        line, now = self.line(), time.time()
        if not self._bar.disable:
            if line != self._shown:
                self._bar.set_description_str(line[: shutil.get_terminal_size().columns - 3])
                self._shown = line
            return
        is_news = line.partition("|")[0] != self._shown.partition("|")[0]
        wait = CHANGED if is_news else max(UNCHANGED, SHARE * (now - self.began))
        if now - self._shown_at >= wait or (last and line != self._shown):
            print_info(f"  {line}")
            self._shown, self._shown_at = line, now

    def close(self) -> None:
        """Show the end."""
        self.show(last=True)
        self._bar.close()


def ended_since(folder: Path, since: float) -> Record | None:
    """The record that was written into a run's folder since then; None where there is none or it cannot be read."""
    with suppress(OSError, RecordError):
        return read_record(folder) if (folder / RECORD_FILE).stat().st_mtime >= since else None
    return None


@contextmanager
def follow_folders(progress: Progress, folders: Sequence[Path]) -> Iterator[None]:
    """Within this, ``progress`` follows the folders of runs that another launcher runs, maybe on other machines."""
    done = threading.Event()
    since = time.time() - TICK

    def watch() -> None:
        left, took, last = set(folders), 0.0, False
        while not last:  # the last look is after the end
            last = done.wait(max(POLL, POLL_FACTOR * took))  # long looks leave the disk to the runs
            began = time.monotonic()
            for folder in sorted(left):
                if (record := ended_since(folder, since)) is not None:
                    left.discard(folder)
                    progress.end(folder, record)
                elif folder not in progress.running and (began_at := started_at(folder) or 0) >= since:
                    progress.start(folder, at=began_at)
            took = time.monotonic() - began
            progress.show()

    thread = threading.Thread(target=watch, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
