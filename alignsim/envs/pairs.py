"""Preference pairs, stacked over seeds: what methods learn from, whatever environment they were drawn in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alignsim._lazy import torch


@dataclass(frozen=True)
class Preferences:
    """N preference pairs for each of S seeds.

    Attributes:
        prompts: (S, N, D).
        responses: (S, N, 2, T), int64: the chosen response first, the rejected one second.
        rewards: scores of both responses by a reward that labels the pairs anew, (S, N, 2); None where there are none.
    """

    prompts: torch.Tensor
    responses: torch.Tensor
    rewards: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.prompts.shape[1]

    def __getitem__(self, pairs: slice) -> Preferences:
        return self._map(lambda values: values[:, pairs])

    def split(self, size: int) -> list[Preferences]:
        """The pairs in parts of at most `size` of each seed."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def select_rows(self, rows: torch.Tensor) -> Preferences:
        """N pairs of each seed in another order, in feature-major layout.

        Args:
            rows: for each seed in turn the N rows of its pairs among those of all seeds, (S * N,), int64.
        """
        reordered = self._map(lambda values: values.flatten(0, 1).index_select(0, rows).view_as(values))
        return reordered.to_feature_major()

    def select_seeds(self, seed_indices: torch.Tensor) -> Preferences:
        """The pairs of some of the seeds, at these indices along the seed axis."""
        return self._map(lambda values: values[seed_indices])

    def to_feature_major(self) -> Preferences:
        """The same pairs with the memory layout of the networks: (S, D, N), (S, T, 2, N) and (S, 2, N)."""
        return self._map(lambda values: values.transpose(1, -1).contiguous().transpose(1, -1))

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Preferences:
        """The pairs with every tensor changed in the same way."""
        rewards = None if self.rewards is None else change(self.rewards)
        return Preferences(change(self.prompts), change(self.responses), rewards)


@dataclass(frozen=True)
class PreferenceData:
    """The pairs that a method may learn from: `train` for gradients, `validation` to choose when to stop."""

    train: Preferences
    validation: Preferences

    def select_seeds(self, seed_indices: torch.Tensor) -> PreferenceData:
        """The pairs of some of the seeds, at these indices along the seed axis."""
        return PreferenceData(self.train.select_seeds(seed_indices), self.validation.select_seeds(seed_indices))
