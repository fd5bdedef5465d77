"""Preference pairs, stacked over seeds: what methods learn from, whatever environment they were drawn in."""

from __future__ import annotations

from dataclasses import dataclass

from alignsim._lazy import torch


@dataclass(frozen=True)
class Preferences:
    """Preference pairs, stacked over seeds.

    Attributes:
        prompts: (S, N, D).
        responses: (S, N, 2, T), int64: the chosen response first, the rejected one second.
    """

    prompts: torch.Tensor
    responses: torch.Tensor

    def __len__(self) -> int:
        return self.prompts.shape[1]

    def __getitem__(self, pairs: slice) -> Preferences:
        return Preferences(self.prompts[:, pairs], self.responses[:, pairs])

    def split(self, size: int) -> list[Preferences]:
        """The pairs in parts of at most `size` of each seed."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def rows(self, rows: torch.Tensor) -> Preferences:
        """As many pairs of each seed in another order: the numbers of the rows, all seeds in a row, (S * N,)."""
        prompts = self.prompts.flatten(0, 1).index_select(0, rows).view_as(self.prompts)
        responses = self.responses.flatten(0, 1).index_select(0, rows).view_as(self.responses)
        return Preferences(prompts, responses).to_feature_major()

    def to_feature_major(self) -> Preferences:
        """The same pairs, in memory as networks use them: prompts (S, D, N), responses (S, T, 2, N)."""
        return Preferences(self.prompts.mT.contiguous().mT, self.responses.transpose(1, 3).contiguous().transpose(1, 3))


@dataclass(frozen=True)
class PreferenceData:
    """The pairs that a method may learn from: `train` for gradients, `validation` to choose when to stop."""

    train: Preferences
    validation: Preferences

    def select_seeds(self, seed_indices: torch.Tensor) -> PreferenceData:
        """The pairs of some of the seeds alone, at these indices along the seed axis."""
        parts = (self.train, self.validation)
        return PreferenceData(
            *(Preferences(pairs.prompts[seed_indices], pairs.responses[seed_indices]) for pairs in parts)
        )
