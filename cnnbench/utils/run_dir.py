"""A run's folder belongs to one process at a time, and a finished record in it is never overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record, write_atomically

LOCK_FILE, ATTEMPTS = ".lock", "attempts.json"


class LockedError(RequestError):
    """Another process is running in this folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder of a run, which is made where it is missing; a killed process lets go of it.

    Raises:
        TakenError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _lock(handle):
            raise LockedError(f"{folder}: another process is running this")
        os.utime(handle)
        yield
    finally:
        os.close(handle)  # which unlocks


def started_at(folder: Path) -> float | None:
    """When a process last claimed this folder, in seconds since the epoch; unlike ``is_claimed`` it is in nobody's way."""
    try:
        return (folder / LOCK_FILE).stat().st_mtime
    except FileNotFoundError:
        return None


def is_locked(folder: Path) -> bool:
    """Whether another process is running in this folder now; not for a folder that this process has claimed."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows; there, nothing keeps two processes apart
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone: its workers do not inherit it
    except OSError:
        return False
    return True


def completed_record(folder: Path, mark: str) -> Record | None:
    """The completed record in ``folder``, if it is of the configuration with this fingerprint; None where there is none.

    Raises:
        RequestError: the record is of another configuration, or cannot be read.
    """
    if not (folder / RECORD_FILE).exists():
        return None
    try:
        record = read_record(folder)
    except RecordError as error:
        raise RequestError(f"{error}; it is not overwritten: delete it, or choose another folder") from error
    if record.get("fingerprint") != mark:
        raise RequestError(f"{folder} holds a run of another configuration ({record['status']}); choose another folder")
    return record if record["status"] == "completed" else None


def archive_attempt(folder: Path) -> None:
    """Move an unfinished end of this run (failed, diverged, interrupted) from result.json to attempts.json."""
    try:
        record = read_record(folder)
    except FileNotFoundError:
        return
    environment = record.get("environment") or {}
    error = record.get("error") or {}
    end = {
        "status": record["status"],
        "error": {key: error.get(key) for key in ("type", "message")},
        "epochs": len((record.get("history") or {}).get("epoch", ())),
        "git": environment.get("git"),
        "git_dirty": environment.get("git_dirty"),
    }
    write_atomically(folder / ATTEMPTS, json.dumps([*attempts(folder), end], indent=1) + "\n")
    (folder / RECORD_FILE).unlink()


def attempts(folder: Path) -> list[dict[str, Any]]:
    """The earlier ends of this run, oldest first."""
    try:
        return json.loads((folder / ATTEMPTS).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def new_record(
    config: Mapping[str, Any],
    fingerprint: str,
    overrides: Sequence[str],
    choices: Mapping[str, str] | None,
    attempts: Sequence[dict[str, Any]] = (),
) -> Record:
    """What is known of a run before it starts; ``attempts`` are its earlier ends."""
    return {
        "status": "failed",
        "name": config["name"],
        "fingerprint": fingerprint,
        "overrides": list(overrides),
        "choices": dict(choices or {}),
        "config": config,
        "seed": config["seed"],
        "protocol": {"objective": config["objective"], "weights": config["test_with"]},
        "error": None,
        "attempts": list(attempts),
    }
