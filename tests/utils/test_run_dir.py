"""A run's folder is locked by one process, until that process ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cnnbench.utils.run_dir import LockedError, is_locked, locked


def test_a_killed_process_holds_nothing_even_where_its_forked_child_lives_on(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        with locked(tmp_path):
            worker = os.fork()
            if worker == 0:
                time.sleep(600)
                os._exit(0)
            os.write(tell, f"{worker}".encode())
            time.sleep(600)
    worker = int(os.read(ready, 20))
    try:
        assert is_locked(tmp_path)
        with pytest.raises(LockedError, match="another process is running this"), locked(tmp_path):
            pass
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        assert not is_locked(tmp_path)
        with locked(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_another_persons_lock_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path):
        pass
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *more: object) -> object:
        if mode != "r":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(Path, "open", read_only)
    assert not is_locked(tmp_path)
