"""The machine that a run trains on: its device, threads and memory, and how many seeds it trains in one stack."""

from __future__ import annotations

import contextlib
import gc
import os
from functools import cache

from alignsim._lazy import torch

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


def seeds_in_stack(device: str, seeds: int, at_once: int) -> int:
    """How many seeds are trained in one stack by default; results are the same up to rounding.

    Args:
        device: the device that they are trained on.
        seeds: the number of seeds, which processes share evenly.
        at_once: the number of processes.
    """
    most = SEEDS_ON_CPU if torch.device(device).type == "cpu" else SEEDS_ON_GPU
    return min(most, max(1, -(-seeds // at_once)))


def processes_at_once(device: str, threads: int | None) -> int:
    """How many processes train at once: on a CPU one for each core.

    Args:
        device: where they train.
        threads: how many cores they may use, None for as many as torch would.
    """
    return threads or _default_threads() if torch.device(device).type == "cpu" else 1


def prepare(device: str, threads: int | None) -> None:
    """Make this process ready for training: one thread on a CPU, unless more are asked for.

    Seeds are shared out to processes, which wait for nobody; the threads of one process wait for each other in every
    operation, and for a single seed of the default sizes two threads are no faster than one.

    Args:
        device: where it will train, `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads to use where it trains all seeds itself.
    """
    if torch.device(device_named(device)).type == "cpu":
        _default_threads()
        torch.set_num_threads(threads or 1)
    _keep_memory()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _default_threads() -> int:
    return torch.get_num_threads()


@cache
def _keep_memory() -> None:
    """Let this process keep its imported modules and its freed memory; only the first call does anything."""
    import ctypes

    # Modules stay until the end: the garbage collector need not look through them
    gc.freeze()
    # Memory that goes back to the system after every step would have to be paged in again for the next
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _VERY_LARGE)
