"""Random numbers that depend on a seed, a purpose and a block number, and on nothing else.

Every random number of alignsim comes from here. So seed 7 has the same world whether it runs alone or among a thousand
others, on any device, and a stage can be resumed at any block without saving the state of a generator.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from alignsim._lazy import numpy as np
from alignsim._lazy import torch


class Streams:
    """Independent random streams, one for each seed and purpose.

    Args:
        seeds: S whole numbers from 0.
        device: the device of the tensors. The numbers are drawn on the CPU and are equal on every device.
    """

    def __init__(self, seeds: Sequence[int], device: str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.device = device

    def normal(self, purpose: str, shape: Sequence[int], block: int = 0) -> torch.Tensor:
        """Standard normal numbers, (S, *shape), float32."""
        return self._draw(purpose, block, lambda g: g.standard_normal(shape, dtype=np.float32))

    def uniform(self, purpose: str, shape: Sequence[int], block: int = 0) -> torch.Tensor:
        """Uniform numbers in [0, 1), (S, *shape), float32."""
        return self._draw(purpose, block, lambda g: g.random(shape, dtype=np.float32))

    def permutation(self, purpose: str, n: int, block: int = 0) -> torch.Tensor:
        """A random order of 0 ... n - 1 for each seed, (S, n), int64."""
        return self._draw(purpose, block, lambda g: g.permutation(n))

    def _draw(
        self, purpose: str, block: int, draw: Callable[[np.random.Generator], np.typing.NDArray[np.generic]]
    ) -> torch.Tensor:
        key = (zlib.crc32(purpose.encode()), block)
        arrays = [draw(np.random.default_rng(np.random.SeedSequence(s, spawn_key=key))) for s in self.seeds]
        numbers = torch.from_numpy(np.stack(arrays))
        if torch.device(self.device).type == "cuda":
            numbers = numbers.pin_memory()  # the copy then waits for nothing
        return numbers.to(self.device, non_blocking=True)
