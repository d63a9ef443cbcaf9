"""One run on several devices: a process (rank) for each, of one machine or more, which trains on its share of a batch.

On one machine ``launch_ranks`` starts the ranks; on several, torchrun or srun starts this program once a rank
(``external_launch``). Each computes the gradients of its rows of the batch, weighted so that their sum is the gradient
of the mean loss over the whole batch; they sum them, and all take the same step. The sum is always over the same
layout, so that a resumed run has the same bits as one that was not stopped.
"""

import io
import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, RunProcsResult, start_processes
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from cnnbench.utils import signals
from cnnbench.utils.environment import is_one_of_several_ranks
from cnnbench.utils.errors import RequestError

LOCALHOST = "127.0.0.1"
POLL = 0.1  # seconds between two looks at the ranks
LAST_READ = 10.0  # seconds for the other ranks to read the last value
LOST_RANK_DELAY = 3.0  # seconds for which a rank that has lost another one leaves its launcher to see that one first
FAILURE_DELAY = 4.0  # seconds for the others to end where a rank has failed: those inside torch hear no signal


def external_launch() -> ClusterEnvironment | None:
    """The cluster environment where torchrun or srun has started several ranks; None where this process is alone.
    Raises RequestError where Lightning cannot tell the ranks from how srun was started."""
    if not is_one_of_several_ranks():
        return None
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    try:
        return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
    except RuntimeError as error:
        raise RequestError(str(error)) from error


@cache
def _store() -> dist.Store:
    """The key-value store that torchrun keeps for its ranks, or that rank 0 opens for those of srun."""
    environment = external_launch()
    assert environment is not None
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    store, _, _ = next(dist.rendezvous("env://", environment.global_rank(), environment.world_size()))
    return dist.PrefixStore("cnnbench", store)


_numbers = itertools.count()
_has_lost_a_rank = False


def broadcast_json(value: Any, is_last: bool = False) -> Any:
    """Rank 0's ``value`` in every rank that torchrun or srun has started, as JSON; those wait for it without end. It
    goes through the store, for Lightning opens the process group for the first run. Rank 0, in which the store may be,
    waits some seconds until the others have read the last value, or not where it has seen that a rank is lost."""
    environment = external_launch()
    assert environment is not None
    key = str(next(_numbers))
    if environment.global_rank() == 0:
        _store().set(key, json.dumps(value))
        deadline = time.monotonic() + LAST_READ if is_last and not _has_lost_a_rank else 0.0
        while time.monotonic() < deadline and _store().add(f"{key} read", 0) < environment.world_size() - 1:
            time.sleep(POLL)
        return value
    while not _store().check([key]):
        time.sleep(POLL)
    received = json.loads(_store().get(key))
    _store().add(f"{key} read", 1)
    return received


class RankFailed(RuntimeError):
    """A rank has failed; ``error`` is the record's (type, message, traceback)."""

    def __init__(self, failure: ProcessFailure, world_size: int) -> None:
        raised = failure.error_file_data["message"]
        if isinstance(raised, dict):
            kind, _, message = raised["message"].partition(": ")
            trace = raised["extraInfo"]["py_callstack"]
        else:
            kind, message, trace = "ProcessEnded", signals.exit_reason(failure.exitcode), ""
        super().__init__(f"rank {failure.local_rank} of {world_size}: {message}")
        self.error = {"type": kind, "message": str(self), "traceback": trace}


def launch_ranks(world_size: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(*arguments)``, all picklable, in so many new processes of this machine, which Lightning takes for
    torchrun's, and wait until all have returned; a request to stop is handed on to them. Raises RankFailed where one
    raised or was killed; the others have been ended."""
    store = dist.TCPStore(LOCALHOST, 0, is_master=True, wait_for_workers=False)
    environ = {
        **os.environ,
        "MASTER_ADDR": LOCALHOST, "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": "cnnbench", "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size), "GROUP_RANK": "0",
    }  # fmt: skip
    ranks = range(world_size)
    environs = {rank: {**environ, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in ranks}
    with tempfile.TemporaryDirectory(prefix="cnnbench_ranks_") as logs, ThreadPoolExecutor(1) as pool:
        # a thread, for in the main one torch would put its signal handlers in place of ours
        processes = pool.submit(_start, dict.fromkeys(ranks, (function, *arguments)), environs, logs).result()
        try:
            pids = list(processes.pids().values())
            started = [process for process in multiprocessing.active_children() if process.pid in pids]
            while (result := _wait(processes, started)) is None:
                if (by := signals.stop_requested()) is not None:
                    while pids:  # each is signalled once
                        os.kill(pids.pop(), getattr(signal, by, signal.SIGTERM))
        finally:
            processes.close()
        if result.is_failed():
            raise RankFailed(next(iter(result.failures.values())), world_size)


def _start(arguments: dict[int, tuple], environs: dict[int, dict[str, str]], logs: str) -> PContext:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if method == "forkserver":
        multiprocessing.get_context(method).set_forkserver_preload(["cnnbench.training.train"])
        resource_tracker.ensure_running()  # else the server's start does that, and lets signals through
        signals.block_signals()  # of this thread, and so of the server and of the ranks until they handle them
    return start_processes("rank", _rank_main, arguments, environs, DefaultLogsSpecs(logs), start_method=method)


def _wait(processes: PContext, started: list[multiprocessing.process.BaseProcess]) -> RunProcsResult | None:
    """Look at the ranks, and where one has failed, wait for the others; torch would leave them 30 seconds."""

    def end_all() -> None:
        for process in started:
            process.kill()

    timer = threading.Timer(FAILURE_DELAY, end_all)
    if any(process.exitcode for process in started):
        timer.start()
    try:
        return processes.wait(POLL, POLL)
    finally:
        timer.cancel()


def _rank_main(function: Callable[..., None], *arguments: Any) -> None:
    with signals.handle_stop_signals(patient=True):
        signals.end_with_parent()
        if os.environ["RANK"] != "0":
            mute()
        function(*arguments)
    if dist.is_initialized():
        dist.destroy_process_group()


def mute() -> None:
    """Print nothing in this process, for rank 0 prints the same."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def has_lost_a_rank(error: BaseException) -> bool:
    """Whether a collective has failed, so another rank has ended; then waits, for a launcher names the first to end."""
    global _has_lost_a_rank
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(str(Path(dist.__file__).parent)):
        return False
    _has_lost_a_rank = True
    until = time.monotonic() + LOST_RANK_DELAY
    while time.monotonic() < until and signals.stop_requested() is None:
        time.sleep(POLL)
    return True


class FixedOrderDDP(DDPStrategy):
    """Lightning's ``ddp`` with ``sum_gradients`` instead of DistributedDataParallel, the order of whose sums depends on
    the steps that a process has done. From the run's ``seed`` each rank draws its own random numbers, for dropout."""

    def __init__(self, environment: ClusterEnvironment, seed: int = 0) -> None:
        super().__init__(cluster_environment=environment)
        self.seed, self.threads = seed, torch.get_num_threads()

    def setup_environment(self) -> None:
        super().setup_environment()
        torch.set_num_threads(self.threads)  # Lightning's launcher has set a number of its own
        state = np.random.SeedSequence([self.seed, self.global_rank]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state) % 2**63)

    def configure_ddp(self) -> None:
        assert self.model is not None
        broadcast_tensors([*self.model.parameters(), *self.model.buffers()])

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        signals.restore_stop_signals()  # Lightning's handler of SIGTERM, new before this, would broadcast at any moment
        super().barrier(*args, **kwargs)


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite these tensors with those of rank 0."""
    with torch.no_grad():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients, which the same parameters have in every rank, by their sum over the ranks."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def gather(value: Any) -> list[Any]:
    """The values, tensors and plain ones, of all ranks; ``[value]`` where there is one alone. Nothing is unpickled."""
    if not dist.is_initialized():
        return [value]
    file, rank = io.BytesIO(), dist.get_rank()
    torch.save(value, file)
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    own = torch.frombuffer(file.getbuffer(), dtype=torch.uint8).to(device)
    sizes = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    sizes[rank] = len(own)
    dist.all_reduce(sizes)
    files = torch.zeros(len(sizes), int(sizes.max()), dtype=torch.uint8, device=device)
    files[rank, : len(own)] = own
    dist.all_reduce(files)
    contents = [part[:size].cpu().numpy().tobytes() for part, size in zip(files, sizes.tolist(), strict=True)]
    return [torch.load(io.BytesIO(content), weights_only=True) for content in contents]
