"""What is said of repetitions: their median, and how far they are apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of repetitions, the smallest and the largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Iterable[float]) -> Spread:
        """Of at least one number."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])
