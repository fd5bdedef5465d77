"""How cost grows: which sizes are tried. Each axis is varied alone, all else stays at its default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from alignsim.config.schema import Seeds
from scripts.benchmarking.sizes import Sizes

WORKS = ("dpo", "rl", "evaluation")

AXES = {
    "seeds": (1, 4, 16, 64, 256, 1024, 4096),
    "n_pairs": (1_000, 4_000, 16_000, 64_000),
    "output_dim": (4, 8, 16, 32, 64),
    "hidden_dim": (32, 64, 128, 256, 512),
}


@dataclass(frozen=True)
class Point:
    """One size on one axis, and what is timed there."""

    axis: str
    value: int
    work: str

    @property
    def seeds(self) -> int:
        """How many seeds."""
        return self.value if self.axis == "seeds" else Seeds().count

    @property
    def sizes(self) -> Sizes:
        """All other sizes."""
        return Sizes() if self.axis == "seeds" else replace(Sizes(), **{self.axis: self.value})


def points() -> Iterator[Point]:
    """All that is measured, in the order of the figure."""
    for axis, values in AXES.items():
        yield from (Point(axis, value, work) for work in WORKS for value in values)
