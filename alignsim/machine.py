"""What a run takes of the machine: the device, the threads, the memory, and how many seeds it trains in one stack."""

from __future__ import annotations

import contextlib
import gc
import getpass
import os
import tempfile
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from alignsim.lazy import torch

#: Seeds that a CPU trains in one stack: enough that each operation is worth its call, few enough for the cache.
SEEDS_ON_CPU = 32

#: Seeds that a GPU trains in one stack: enough to keep it busy, and a checkpoint of them is about 100 MB.
SEEDS_ON_GPU = 1024

#: glibc's names for its settings, and what they are set to: the largest threshold that it takes, and 1 GiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE, _VERY_LARGE = 1 << 25, 1 << 30


def device_named(name: str) -> str:
    """The device to train on, as torch names it; `auto` is a GPU where there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def seeds_in_stack(device: str) -> int:
    """How many seeds are trained at once on a device if nobody says how many. Results do not depend on it."""
    return SEEDS_ON_CPU if torch.device(device).type == "cpu" else SEEDS_ON_GPU


def prepare(threads: int | None) -> str:
    """Make this process ready for training, before it imports torch.

    Two processes that both want every core wait for each other in every operation and are both slower than if one of
    them had a single thread. So the first training on a machine takes all cores, and one beside it a single thread.

    Args:
        threads: CPU threads to use; None for all cores, or one where another training has them.

    Returns:
        What the user should know of it, empty where all is as expected.
    """
    note = ""
    if threads is None and not _has_the_cores():
        threads, note = 1, "another training has the cores: one thread for this one (threads=N: as many as you say)"
    if threads is not None:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # threads of torch that wait let others have their core soon
    torch.set_num_threads(threads or cores())
    _settle_in()
    return note


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _cores_lock() -> FileLock:
    """Held by the training that takes all cores of this machine, as long as its process lives."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return FileLock(Path(tempfile.gettempdir()) / f"alignsim-cores-{user}.lock")


def _has_the_cores() -> bool:
    try:
        _cores_lock().acquire(timeout=0)
    except Timeout:
        return False
    except OSError:  # no place for locks: as if alone
        return True
    return True


@cache
def _settle_in() -> None:
    """Once for a process: look for garbage only in what is new, and keep freed memory.

    What is imported stays, and looking through it takes long. Memory that is given back to the system after every
    step has to be paged in again for the next.
    """
    import ctypes

    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _VERY_LARGE)
