"""Memory: keep what training frees, import without garbage collection, and say how much is left.

Each training step allocates and frees the same large buffers. glibc maps blocks above a threshold anew each time and
gives freed memory back, so that the kernel zeroes every page at the next touch. Keeping that memory costs what the
largest step needs anyway (figures in benchmarks/README.md).
"""

import atexit
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MALLOC_OPTIONS = {  # by their numbers in <malloc.h>, in bytes
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD: the most that glibc takes on 64 bits; larger blocks are mapped as before
    -1: 512 * 2**20,  # M_TRIM_THRESHOLD: free memory at the top of the heap that is kept
    -2: 64 * 2**20,  # M_TOP_PAD: how much the heap grows at a time
}

MEMBERSHIP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # man 7 cgroups


def keep_freed_memory() -> None:
    """Set the thresholds for this process, where the C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        for parameter, value in MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(parameter, value)


@contextmanager
def no_gc_during_import() -> Iterator[None]:
    """For the first import of torch and all that is built on it: nothing is collected within, and none of it is looked
    at after, for it stays for good. That saves a sixth of the time."""
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # triton looks for leaks at the end
        gc.enable()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the system, or a GPU, had no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def free_memory() -> int:
    """Bytes of main memory that can be taken without swapping (Linux's MemAvailable; all there is elsewhere), within the
    limit of a container or a Slurm job (control groups of version 2)."""
    with suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return min([int(lines["MemAvailable"].split()[0]) * 1024, *_left_in_groups()])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_groups() -> Iterator[int]:
    """What the limits of this process's control groups (version 2) leave: cached files make way, so they count as free."""
    lines = MEMBERSHIP.read_text().splitlines() if MEMBERSHIP.exists() else []
    own = CGROUPS / next((line[3:] for line in lines if line.startswith("0::")), "").strip("/")
    for folder in (own, *own.parents):
        with suppress(OSError, ValueError, KeyError):  # there is no such group here, or its limit is "max"
            limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield max(limit - used + int(stat["inactive_file"]) + int(stat["active_file"]), 0)
