"""The other processes of a run on several devices: they begin and end with the first, and their failure is its own.

They come from the server that runs of a sweep are forked from (``cnnbench.sweep.isolate``). The first process waits for
them in every step, so it has to know when one has ended: most often its connection breaks and the step raises; should it
wait on (as on a GPU), this process is ended, its record written.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

import torch.distributed as dist

from cnnbench.distributed import Place
from cnnbench.errors import RequestError
from cnnbench.stopping import STOP_FILE
from cnnbench.sweep.isolate import context, own_session, reason

HERE = "127.0.0.1"
POLL = 0.1  # seconds between two looks at the others
WAIT = timedelta(minutes=30)  # for all to have built what they train
PATIENCE = 3.0  # seconds, once this process has failed, to hear of another that has failed before it
GRACE = 15.0  # seconds in which this process should notice by itself that another has failed
LEAVE = 10.0  # seconds for the others to end once this one has

Error = dict[str, str]
Work = Callable[[Place], Error | None]


class FollowerFailed(RuntimeError):
    """Another process of this run has failed; ``error`` is the record's."""

    def __init__(self, error: Error) -> None:
        super().__init__(error["message"])
        self.error = error


@dataclass
class _Follower:
    rank: int
    process: ForkServerProcess
    reports: Connection
    end: tuple[float, Error | None] | None = None  # when (time.monotonic) and how its work ended, as it has said

    def look(self, world: int) -> bool:
        """Take its report, or make it one where it is dead; returns whether it is still there."""
        code = self.process.exitcode  # before the report, which comes before the end
        if self.end is None and self.reports.poll():
            try:
                self.end = self.reports.recv()
            except EOFError:
                self.process.join(POLL)
        if code is None:
            return True
        if self.end is None:
            message = f"process {self.rank + 1} of {world}: {reason(code)}"
            self.end = -1.0, {"type": "ProcessEnded", "message": message, "traceback": ""}
        return False


class Followers:
    """The processes 1 to ``world - 1`` of a run.

    Args:
        world: processes of the run, this one included.
        work: what each does at its place; returns the error that it ended with, as the record has it, or None. It is
            sent to them, so it must be picklable.
        give_up: called with the error before this process is ended because it did not notice that another has failed.
    """

    def __init__(self, world: int, work: Work, give_up: Callable[[Error], None]) -> None:
        self.world, self.give_up = world, give_up
        self.store = dist.TCPStore(HERE, 0, world, is_master=True, wait_for_workers=False, timeout=WAIT)
        self.over = threading.Event()
        self.followers = [self._start(rank, work) for rank in range(1, world)]
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="followers")
        self._watcher.start()

    def _start(self, rank: int, work: Work) -> _Follower:
        receive, send = context().Pipe(duplex=False)
        arguments = rank, self.world, self.store.port, work, send, dict(os.environ)
        process = context().Process(target=_follow, args=arguments)
        process.start()
        send.close()
        return _Follower(rank, process, receive)

    def _watch(self) -> None:
        """Hear how they end; the only thread that does."""
        there, since = list(self.followers), None
        while there:
            wait([follower.process.sentinel for follower in there], POLL)
            there = [follower for follower in there if follower.look(self.world)]
            if self.over.is_set() or (error := self.failure()) is None:
                continue
            since = since or time.monotonic()
            while time.monotonic() - since < GRACE and not self.over.wait(POLL):
                pass
            if not self.over.is_set():
                self.give_up(error)
                os._exit(1)

    def failure(self, before: float = float("inf")) -> Error | None:
        """How the first that failed has failed, if that was earlier than ``before`` (of time.monotonic)."""
        ends = [follower.end for follower in self.followers if follower.end is not None]
        failed = [(when, error) for when, error in ends if error is not None and when < before]
        return min(failed, key=lambda end: end[0])[1] if failed else None

    def meet(self) -> None:
        """Wait until all have built what they train; raises FollowerFailed where one could not."""
        while not self.store.check([_ready(rank) for rank in range(1, self.world)]):
            if (error := self.failure()) is not None:
                raise FollowerFailed(error)
            time.sleep(POLL / 2)

    def blame(self) -> Error | None:
        """How another has failed before this process did, which is now, if one has."""
        now = time.monotonic()
        while time.monotonic() < now + PATIENCE and any(follower.end is None for follower in self.followers):
            time.sleep(POLL)
        return self.failure(before=now)

    def end(self) -> None:
        """Wait until they have ended, and end those that do not."""
        self.over.set()
        self._watcher.join(LEAVE)
        for follower in self.followers:
            if self._watcher.is_alive():
                follower.process.kill()
        self._watcher.join()


@contextmanager
def together(world: int, work: Work, give_up: Callable[[Error], None]) -> Iterator[Place]:
    """Within this the other processes do ``work``; yields the place of this one.

    Args:
        world, work, give_up: as for ``Followers``; nothing is started where ``world`` is 1.

    Raises:
        FollowerFailed: instead of what this process failed with because another had failed.
    """
    if world == 1:
        yield Place()
        return
    followers = Followers(world, work, give_up)
    try:
        yield Place(0, world, followers.store, followers.meet)
    except Exception as failed:
        if (error := followers.blame()) is not None:
            raise FollowerFailed(error) from failed
        raise
    finally:
        followers.over.set()
        if dist.is_initialized():
            dist.destroy_process_group()
        followers.end()


def _follow(rank: int, world: int, port: int, work: Work, reports: Connection, environ: dict[str, str]) -> None:
    """What such a process does."""
    own_session()
    os.environ.clear()
    os.environ.update(environ)
    os.environ.pop(STOP_FILE, None)  # the first process watches that
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")  # the first process says the same
    store = dist.TCPStore(HERE, port, world, is_master=False, timeout=WAIT)
    error = work(Place(rank, world, store, lambda: store.set(_ready(rank), "")))
    reports.send((time.monotonic(), error))
    os._exit(0 if error is None else 1)  # what it leaves behind is nobody's


def _ready(rank: int) -> str:
    return f"ready {rank}"


def follows() -> bool:
    """Whether this is one of torchrun's processes but not its first, which starts those of the run itself.

    Raises:
        RequestError: torchrun has started some on other machines.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        raise RequestError("a run takes the devices of one machine; give torchrun --nnodes=1")
    return os.environ.get("LOCAL_RANK", "0") != "0"
