"""What surrounds every run: its folder's lock, signals that ask for a stop, its record, and errors that go into that."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException

from cnnbench.config.compose import fingerprint
from cnnbench.training.callbacks import Diverged
from cnnbench.training.distributed import RankFailed
from cnnbench.utils import run_dir
from cnnbench.utils.record import Record, write_record
from cnnbench.utils.signals import Stopped, handle_stop_signals

Run = Callable[[dict[str, Any], Path, Record], None]


def recorded(
    config: dict[str, Any], folder: Path, overrides: Sequence[str], choices: dict[str, str] | None, run: Run
) -> Record:
    """Do ``run(config, folder, record)`` and write the record, however it ends; one that has completed is not repeated.

    Raises:
        RequestError: the folder holds another configuration's run, or another process is running in it.
    """
    digest = fingerprint(config)
    with run_dir.locked(folder), handle_stop_signals():
        completed = run_dir.completed_record(folder, digest)
        if completed is not None:
            return completed
        run_dir.archive_attempt(folder)
        record = run_dir.new_record(folder, config, digest, overrides, choices)
        record_end(record, lambda: run(config, folder, record))
        write_record(folder, record)
    return record


def record_end(record: Record, run: Callable[[], None]) -> Exception | None:
    """Do ``run``; how it ends goes into ``status`` and ``error`` of the record. Returns what it failed with."""
    try:
        run()
    except Diverged as error:
        record.update(status="diverged", error={**_describe(error), "epoch": error.epoch, "step": error.step})
    except (KeyboardInterrupt, Stopped) as error:
        record.update(status="interrupted", error=_describe(error))
    except RankFailed as error:
        record.update(status="failed", error=error.error)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else None
        failure = cause if isinstance(cause, Exception) else error
        record.update(
            status="failed", error={**_describe(error), "type": type(failure).__name__, "message": str(failure)}
        )
        return failure
    return None


def _describe(error: BaseException) -> dict[str, str]:
    """The record's ``error``."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
