"""What a run takes of the machine: the device, the threads, the memory, and how many seeds it trains in one stack."""

from __future__ import annotations

import contextlib
import gc

from alignsim.lazy import torch

#: Seeds that a CPU trains in one stack: enough that each operation is worth its call, few enough for the cache.
SEEDS_ON_CPU = 32

#: Seeds that a GPU trains in one stack: enough to keep it busy, and a checkpoint of them is still small.
SEEDS_ON_GPU = 4096

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


def prepare(threads: int | None) -> None:
    """Make this process ready for training.

    Args:
        threads: CPU threads to use, None for as many as torch likes.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    _keep_freed_memory()
    gc.freeze()  # what is imported stays; looking through it for garbage again and again takes long


def _keep_freed_memory() -> None:
    """Let the allocator keep what is freed: else every step gives memory back and has it paged in anew."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _VERY_LARGE)
