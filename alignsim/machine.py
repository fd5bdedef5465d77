"""What a run takes of the machine: the device, the threads, the memory, and how many seeds it trains in one stack."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import zlib
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
    """How many seeds are trained at once on a device if nobody says how many; results are the same up to rounding."""
    return SEEDS_ON_CPU if torch.device(device).type == "cpu" else SEEDS_ON_GPU


def prepare(device: str, threads: int | None) -> str:
    """Make this process ready for training, before it imports torch.

    Two processes that both want every core wait for each other in every operation and are both slower than if one of
    them had a single thread. So the first training of a user on some cores takes them all, and another beside it a
    single thread.

    Args:
        device: where it will train, `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads to use; None for as many as torch takes by default, or one where another training has the
            cores.

    Returns:
        What the user should know of it, empty where all is as expected.
    """
    has_cores = not device.startswith("cuda") and threads is None and _take_the_cores()
    if not has_cores:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # threads of torch that wait let others have their core soon
    on_cpu = torch.device(device_named(device)).type == "cpu"
    beside = on_cpu and threads is None and not has_cores and _default_threads() > 1
    if has_cores and not on_cpu:
        _cores_lock().release()
    torch.set_num_threads(threads or (1 if beside else _default_threads()))
    _settle_in()
    return "another training has the cores: one thread for this one, threads=N for more" if beside else ""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _default_threads() -> int:
    return torch.get_num_threads()


@cache
def _cores_lock() -> FileLock:
    """Held by the training that takes all of these cores, as long as its process lives."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    these = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    name = f"alignsim-{user}-{zlib.crc32(repr(these).encode()):08x}.lock"
    return FileLock(Path(tempfile.gettempdir()) / name, thread_local=False)


def _take_the_cores() -> bool:
    """Whether they were free; as if alone where locks cannot be had."""
    try:
        _cores_lock().acquire(timeout=0)
    except Timeout:
        return False
    except (OSError, RuntimeError):
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
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _VERY_LARGE)
