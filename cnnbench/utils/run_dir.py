"""A run's folder belongs to one process at a time, and a finished record in it is never overwritten."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_json, read_record, write_atomically

LOCK_FILE, ATTEMPTS = ".lock", "attempts.json"


class LockedError(RequestError):
    """Another process is running in this folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which is made where it is missing, at most until the process ends. Raises
    LockedError where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as file:
        if not _lock(file):
            raise LockedError(f"{folder}: another process is running this")
        os.utime(file.fileno())
        yield


def started_at(folder: Path) -> float | None:
    """When a process last locked this folder, in seconds since the epoch; None where none has."""
    with suppress(FileNotFoundError):
        return (folder / LOCK_FILE).stat().st_mtime
    return None


def is_locked(folder: Path) -> bool:
    """Whether another process is running in this folder now; not for a folder that this process has locked."""
    with suppress(FileNotFoundError), (folder / LOCK_FILE).open() as file:  # which may be another person's
        return not _lock(file, shared=True)
    return False


def _lock(file: IO[str], shared: bool = False) -> bool:
    try:
        import fcntl

        # Of this process alone. The locks of flock, and so of filelock before 4.0, pass to forked children: a data
        # loader's worker that outlives a killed run would keep its folder.
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    except ImportError:  # Windows; there, nothing keeps two processes apart
        pass
    return True


def completed_record(folder: Path, fingerprint: str) -> Record | None:
    """The completed record in ``folder``; None where there is none. Raises RequestError where the record is of another
    configuration, or cannot be read."""
    if not (folder / RECORD_FILE).exists():
        return None
    try:
        record = read_record(folder)
    except RecordError as error:
        raise RequestError(f"{error}; it is not overwritten: delete it, or choose another folder") from error
    if record.get("fingerprint") != fingerprint:
        raise RequestError(f"{folder} holds a run of another configuration ({record['status']}); choose another folder")
    return record if record["status"] == "completed" else None


def archive_attempt(folder: Path) -> None:
    """Move an unfinished end of this run (failed, diverged, interrupted) from result.json to attempts.json."""
    try:
        record = read_record(folder)
    except FileNotFoundError:
        return
    environment, error, history = (record.get(key) or {} for key in ("environment", "error", "history"))
    end = {"status": record["status"], "error": {key: error.get(key) for key in ("type", "message")},
           "epochs": len(history.get("epoch", ())),
           "git": environment.get("git"), "git_dirty": environment.get("git_dirty")}  # fmt: skip
    write_atomically(folder / ATTEMPTS, json.dumps([*attempts(folder), end], indent=1) + "\n")
    (folder / RECORD_FILE).unlink()


def sweep_of(folder: Path) -> str | None:
    """The name of the sweep that a run's folder is in, or that the folder is; None where there is none."""
    above = (folder.absolute(), folder.absolute().parent)
    return next((one.name for one in above if (one / "sweep.json").exists()), None)


def attempts(folder: Path) -> list[dict[str, Any]]:
    """The earlier ends of this run, oldest first."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        return list(read_json(folder / ATTEMPTS))
    return []


def new_record(
    folder: Path, config: dict[str, Any], fingerprint: str, overrides: Sequence[str], choices: Mapping[str, str] | None
) -> Record:
    """What is known of a run before it starts."""
    average, views = config.get("average", {}).get("_target_"), config.get("test_time_augmentation", "none")
    protocol = {"objective": config["objective"], "weights": config["test_with"], "test_time_augmentation": views,
                "average": None if average is None else average.rpartition(".")[2]}  # fmt: skip
    return {
        "status": "failed", "name": config["name"], "fingerprint": fingerprint, "overrides": list(overrides),
        "choices": dict(choices or {}), "config": config, "seed": config["seed"], "protocol": protocol, "error": None,
        "attempts": attempts(folder),
    }  # fmt: skip
