"""Processes that are forked from a server which has imported everything and computed nothing: a run then starts in a
fraction of a second, no thread or CUDA context is copied, and the process that asked for it does not import torch."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from cnnbench.utils.errors import RequestError
from cnnbench.utils.signals import block_signals, end_with_parent, unblock_signals

PRELOAD = ["cnnbench.sweep.preload"]


def context() -> ForkServerContext:
    """Makes processes from the server, which is started by the first."""
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("forkserver", force=True)  # joblib's workers would pass on a name of its own
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOAD)
    return found


def warm_up() -> None:
    """Start the server now, so that it imports while the caller does other things."""
    context()
    resource_tracker.ensure_running()  # the server would start it, and that unblocks signals
    block_signals()  # which the server inherits: it is there before it can block them itself
    try:
        forkserver.ensure_running()
    finally:
        unblock_signals()


def start(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """A process that calls ``function(*arguments)``; waits until the server has imported everything."""
    process = context().Process(target=function, args=arguments)
    try:
        process.start()
    except (ConnectionError, EOFError):  # the server was killed at this moment: from a new one
        process = context().Process(target=function, args=arguments)
        process.start()
    return process


def call_isolated(function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(*arguments)`` in a process from the server, so that this one need not import what it needs.
    Raises what ``function`` raised, and RequestError where the process was killed."""
    receive, send = context().Pipe(duplex=False)
    process = start(_call, send, function, arguments)
    send.close()
    try:
        error, where = receive.recv()
    except EOFError as end:
        often = "often: the system had run out of memory"
        raise RequestError(f"the process that checks the runs was killed ({often})") from end
    except KeyboardInterrupt:
        process.kill()
        raise
    if error is not None:
        raise error from RuntimeError(where)


def _call(send: Connection, function: Callable[..., None], arguments: Sequence[Any]) -> None:
    own_session()
    try:
        function(*arguments)
        send.send((None, ""))
    except Exception as error:
        send.send((error, traceback.format_exc()))


def own_session() -> None:
    """Leave Ctrl-C in a terminal to the process that started this one, which passes it on, and end with that one."""
    os.setsid()
    unblock_signals()
    end_with_parent()


def kill(process: multiprocessing.process.BaseProcess) -> None:
    """End a process and those that it started, at once."""
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has no session of its own yet
        process.kill()
