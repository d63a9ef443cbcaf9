"""A run on several machines: torchrun starts this program on each, the first leads and the others lend it processes.

The machines meet at torchrun's own store. For each run the leader puts the work of its other processes there, under a
number; every other machine takes it, starts as many as it has devices, and says how they ended. That goes on, run after
run of a sweep, until the leader has no more.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch.distributed as dist

from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError

if TYPE_CHECKING:
    from cnnbench.training.distributed import Place

HERE = "127.0.0.1"
POLL = 0.1  # seconds between two looks at the others
WAIT = timedelta(minutes=30)  # for all to have built what they train
LEAVE = 10.0  # seconds for the others to end once the first has
TORCHRUN = "TORCHELASTIC_RUN_ID"  # an environment variable that torchrun's processes have
RUNS, OVER, WORK = "runs", "over", "work"  # keys of the store: how many runs there were, none comes, what one's is

Error = dict[str, str]
Work = Callable[["Place"], Error | None]


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a run meet: a store, and what its keys begin with."""

    host: str
    port: int
    prefix: str = ""

    def store(self) -> dist.Store:
        """A connection of one's own: what waits in one holds up whatever else uses it."""
        store = dist.TCPStore(self.host, self.port, is_master=False, wait_for_workers=False, timeout=WAIT)
        return dist.PrefixStore(self.prefix, store) if self.prefix else store

    def below(self, name: str) -> Meeting:
        """One with keys of its own in the same store."""
        return Meeting(self.host, self.port, f"{self.prefix}/{name}")


class Lent:
    """What the leader knows of the processes of a run on another machine."""

    def __init__(self, number: int, meeting: Meeting) -> None:
        self.number, self.store = number, meeting.store()
        self.end: tuple[float, Error | None] | None = None  # when (time.time) and how their work ended

    def look(self) -> bool:
        """Read whether they have ended; returns whether they are still there."""
        if self.end is None and self.store.check([_ended(self.number)]):
            self.end = pickle.loads(self.store.get(_ended(self.number)))
        return self.end is None

    def give_back(self) -> None:
        """Say that the run is over; whoever has not ended by itself is ended."""
        self.store.set(OVER, "")


def machines() -> int:
    """On how many machines torchrun has started this program; 1 without torchrun."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) if TORCHRUN in os.environ else 1


def borrow(count: int, devices: int, work: Work) -> tuple[Meeting, list[Lent]]:
    """Ask the other machines for the processes of a run.

    Args:
        count: of machines.
        devices: processes on each.
        work: of each process; sent to them, so it must be picklable.

    Returns:
        Where they will meet, and what will be known of each machine.
    """
    meeting = torchruns()
    run = meeting.below(str(meeting.store().add(RUNS, 1)))
    run.store().set(WORK, pickle.dumps((devices, count * devices, work)))  # type: ignore[arg-type]  # bytes will do
    return run, [Lent(number, run) for number in range(1, count)]


def torchruns() -> Meeting:
    """torchrun's own store.

    Raises:
        RequestError: it has none for its processes.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RequestError("torchrun keeps no store here: give it --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT")
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    prefix = f"cnnbench/{os.environ[TORCHRUN]}/{attempt}"
    return Meeting(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), prefix)


def under_torchrun(run: Callable[[], int]) -> int:
    """What one of torchrun's processes does; returns its exit status.

    The first of the first machine does ``run``, the first of every other lends processes to it, and the rest are not
    needed: a run starts its own.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return 0
    if machines() == 1:
        return run()
    if os.environ["GROUP_RANK"] != "0":
        return lend(int(os.environ["GROUP_RANK"]))
    status = 1
    try:
        status = run()
    finally:
        torchruns().store().set(OVER, str(status))
    return status


def lend(number: int) -> int:
    """Start the processes that the leader asks for, until it has no more runs; returns its exit status, for torchrun
    would wait minutes on a machine that is done for one that has failed.

    Args:
        number: of this machine.
    """
    from cnnbench.sweep.process import warm_up

    asked: list[int] = []  # signals to end
    for stop in (signal.SIGTERM, signal.SIGINT):  # a run stops when the leader says so, and that has been told too
        signal.signal(stop, lambda signum, frame: asked.append(signum))
    warm_up()  # what processes come from, while the leader reads its configuration
    meeting = torchruns()
    store = meeting.store()
    run = 1
    while not asked:
        if store.check([f"{run}/{WORK}"]):
            print_info(f"machine {number + 1}: run {run}")
            _serve(number, meeting, run)
            run += 1
        elif store.check([OVER]):
            return int(store.get(OVER))
        time.sleep(POLL)
    return 1


def _serve(number: int, meeting: Meeting, run: int) -> None:
    """Do this machine's part of a run, until that is over or the leader is further already, as it is when this one's
    first process was killed."""
    from cnnbench.training.followers import Followers

    all_runs, mine = meeting.store(), meeting.below(str(run))
    store = mine.store()
    devices, world, work = pickle.loads(store.get(WORK))
    ranks = range(number * devices, (number + 1) * devices)
    followers = Followers(ranks, devices, world, mine, work)
    while followers.there() and followers.first_failure() is None:
        if store.check([OVER]) or all_runs.check([f"{run + 1}/{WORK}"]) or all_runs.check([OVER]):
            break
        time.sleep(POLL)
    if not followers.there():
        followers.end()  # which hears how they have
    store.set(_ended(number), pickle.dumps(followers.first_failure() or (time.time(), None)))  # type: ignore[arg-type]
    followers.end()


def _ended(number: int) -> str:
    return f"machine {number} has ended"
