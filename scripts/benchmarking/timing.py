"""Clocks and gauges: seconds for a step, the machine's matrix-product peak, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping

import torch

from alignsim.methods.base import Monitor
from alignsim.models.base import StackedModel

#: Sizes of the square matrices whose product is timed, by kind of device.
_MATRIX_SIZES = {"cpu": (1024, 1536, 2048), "cuda": (2048, 4096, 8192)}


class Stopwatch(Monitor):
    """Takes the time at every report of a stage, when the device has done what was asked of it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.ticks: list[tuple[int, float]] = []

    def record(self, stage: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """After `step` steps."""
        self.tick(step)

    def tick(self, step: int) -> None:
        """After `step` steps."""
        self.ticks.append((step, now(self._device)))

    def seconds_per_step(self) -> float:
        """From the first report after step 0 to the last: set-up and the first steps do not count."""
        (first, began), *_, (last, ended) = [tick for tick in self.ticks if tick[0] > 0]
        return (ended - began) / (last - first)


def now(device: str) -> float:
    """The time in seconds, once the device has done what was asked of it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_product_peak(device: str, least_seconds: float = 0.1) -> float:
    """The best rate of products of large square float32 matrices, in operations per second, with torch's threads."""
    return max(_product_rate(side, device, least_seconds) for side in _MATRIX_SIZES[device.partition(":")[0]])


def _product_rate(side: int, device: str, least_seconds: float) -> float:
    left, right = torch.ones(side, side, device=device), torch.ones(side, side, device=device)
    out = torch.mm(left, right)
    best, ends_at = float("inf"), now(device) + least_seconds
    while (began := now(device)) < ends_at:
        torch.mm(left, right, out=out)
        best = min(best, now(device) - began)
    return 2 * side**3 / best


def peak_memory(device: str) -> float:
    """The most memory that this process has held until now: its own, on a GPU the tensors there, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def faster_threads(seconds: Callable[[], float]) -> int:
    """Whether one thread or all that torch now uses take fewer seconds; torch is left with that many."""
    timings = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        seconds()  # the first call is slower
        timings[threads] = seconds()
    fastest = min(timings, key=timings.__getitem__)
    torch.set_num_threads(fastest)
    return fastest
