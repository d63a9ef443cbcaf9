"""The other processes of a run on several devices: they begin and end with the first, and their failure is its own.

They come from the server that runs of a sweep are forked from (``cnnbench.sweep.process``), those on another machine
from that machine's (``cnnbench.training.machines``). The first process waits for them in every step, so it has to know when one
has ended: most often its connection breaks and the step raises; should it wait on (as on a GPU), this process is ended,
its record written.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch.distributed as dist

from cnnbench.sweep.process import context, own_session, reason
from cnnbench.training.distributed import Place
from cnnbench.training.machines import HERE, LEAVE, POLL, WAIT, Error, Lent, Meeting, Work, borrow
from cnnbench.utils.signals import STOP_FILE, handle_stop_signals

PATIENCE = 3.0  # seconds, once this process has failed, to hear of another that has failed before it
GRACE = 15.0  # seconds in which this process should notice by itself that another has failed


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
    end: tuple[float, Error | None] | None = None  # when (time.time) and how its work ended, as it has said

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
    """Processes of a run beside the one that started them.

    Args:
        ranks: of those to start on this machine.
        devices: processes on each machine.
        world: processes of the run.
        meeting: where they meet.
        work: what each does at its place; returns the error that it ended with, as the record has it, or None. It is
            sent to them, so it must be picklable.
        give_up: called with the error before this process is ended because it did not notice that another has failed;
            None where this process takes no part.
        lent: those on other machines.
    """

    def __init__(
        self,
        ranks: Sequence[int],
        devices: int,
        world: int,
        meeting: Meeting,
        work: Work,
        give_up: Callable[[Error], None] | None = None,
        lent: Sequence[Lent] = (),
    ) -> None:
        self.world, self.devices, self.give_up, self.lent = world, devices, give_up, list(lent)
        self.over = threading.Event()
        self.followers = [self._start(rank, meeting, work) for rank in ranks]
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="followers")
        self._watcher.start()

    def _start(self, rank: int, meeting: Meeting, work: Work) -> _Follower:
        receive, send = context().Pipe(duplex=False)
        place = Place(rank, self.world, devices=self.devices)
        process = context().Process(target=_follow, args=(place, meeting, work, send, dict(os.environ)))
        process.start()
        send.close()
        return _Follower(rank, process, receive)

    def _watch(self) -> None:
        """Hear how they end; the only thread that does."""
        there, away, since = list(self.followers), list(self.lent), None
        while there or (away and not self.over.is_set()):
            wait([follower.process.sentinel for follower in there], POLL)
            there = [follower for follower in there if follower.look(self.world)]
            away = [machine for machine in away if machine.look()]
            if self.give_up is None or self.over.is_set() or (error := self.failure()) is None:
                continue
            since = since or time.time()
            while time.time() - since < GRACE and not self.over.wait(POLL):
                pass
            if not self.over.is_set():
                self.give_up(error)
                os._exit(1)

    def first_failure(self) -> tuple[float, Error] | None:
        """When (time.time, which the machines of a cluster share) and how the first that failed has failed."""
        others: list[_Follower | Lent] = [*self.followers, *self.lent]
        ends = [other.end for other in others if other.end is not None]
        failed = [(when, error) for when, error in ends if error is not None]
        return min(failed, key=lambda end: end[0]) if failed else None

    def failure(self, before: float = float("inf")) -> Error | None:
        """How the first that failed has failed, if that was earlier than ``before``."""
        first = self.first_failure()
        return first[1] if first is not None and first[0] < before else None

    def meet(self, store: dist.Store) -> None:
        """Wait until all have built what they train; raises FollowerFailed where one could not."""
        while not store.check([_ready(rank) for rank in range(1, self.world)]):
            if (error := self.failure()) is not None:
                raise FollowerFailed(error)
            time.sleep(POLL / 2)

    def blame(self) -> Error | None:
        """How another has failed before this process did, which is now, if one has."""
        now = time.time()
        others: list[_Follower | Lent] = [*self.followers, *self.lent]
        while time.time() < now + PATIENCE and any(other.end is None for other in others):
            time.sleep(POLL)
        return self.failure(before=now)

    def there(self) -> bool:
        """Whether any of them on this machine is still at work."""
        return any(follower.process.is_alive() for follower in self.followers)

    def end(self) -> None:
        """Wait until they have ended, and end those that do not."""
        self.over.set()
        self._watcher.join(LEAVE)
        for follower in self.followers:
            if self._watcher.is_alive():
                follower.process.kill()
        self._watcher.join()


@contextmanager
def together(devices: int, machines: int, work: Work, give_up: Callable[[Error], None]) -> Iterator[Place]:
    """Within this the other processes do ``work``; yields the place of this one.

    Args:
        devices: processes on each machine.
        machines: how many of them; nothing is started where there is one process in all.
        work, give_up: as for ``Followers``.

    Raises:
        FollowerFailed: instead of what this process failed with because another had failed.
    """
    world = devices * machines
    if world == 1:
        yield Place()
        return
    lent: list[Lent] = []
    if machines == 1:
        store: Any = dist.TCPStore(HERE, 0, is_master=True, wait_for_workers=False, timeout=WAIT)
        meeting = Meeting(HERE, store.port)
    else:
        meeting, lent = borrow(machines, devices, work)
        store = meeting.store()
    followers = Followers(range(1, devices), devices, world, meeting, work, give_up, lent)
    try:
        yield Place(0, world, store, lambda: followers.meet(store), devices)
    except Exception as failed:
        if (error := followers.blame()) is not None:
            raise FollowerFailed(error) from failed
        raise
    finally:
        followers.over.set()
        if dist.is_initialized():
            dist.destroy_process_group()
        for machine in lent:
            machine.give_back()
        followers.end()


def _follow(place: Place, meeting: Meeting, work: Work, reports: Connection, environ: dict[str, str]) -> None:
    """What such a process does; a stop is heard from its first moment on."""
    with handle_stop_signals(patient=True):
        _take_part(place, meeting, work, reports, environ)


def _take_part(place: Place, meeting: Meeting, work: Work, reports: Connection, environ: dict[str, str]) -> None:
    own_session()
    os.environ.clear()
    os.environ.update(environ)
    os.environ.pop(STOP_FILE, None)  # the first process watches that
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")  # the first process says the same
    store = meeting.store()
    error = work(replace(place, store=store, meet=lambda: store.set(_ready(place.rank), "")))
    reports.send((time.time(), error))
    os._exit(0 if error is None else 1)  # what it leaves behind is nobody's


def _ready(rank: int) -> str:
    return f"ready {rank}"
