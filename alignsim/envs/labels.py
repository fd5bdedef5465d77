"""How preference pairs are labeled: the probability that the first response of a pair is preferred, and label noise.

`conf/env/labels/` has a file for each component. The environment samples the labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT, Component


@dataclass(frozen=True, config=STRICT)
class Labels(Component, ABC):
    """A labeler of preference pairs. A subclass defines the probability of each preference before noise.

    Attributes:
        flip_probability: the probability that a label is flipped after it was drawn.
    """

    flip_probability: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @abstractmethod
    def preference_probability(
        self, rewards: torch.Tensor, prompts: torch.Tensor, responses: torch.Tensor
    ) -> torch.Tensor:
        """P(first response preferred to the second), before flips, in [0, 1], (S, N).

        Args:
            rewards: true rewards of both responses of each pair, (S, N, 2).
            prompts: (S, N, D).
            responses: (S, N, 2, T), int64.
        """


@dataclass(frozen=True, config=STRICT)
class BradleyTerry(Labels):
    """P(a preferred to b | x) = sigmoid(r*(x, a) - r*(x, b)) (Bradley & Terry 1952)."""

    def preference_probability(
        self, rewards: torch.Tensor, prompts: torch.Tensor, responses: torch.Tensor
    ) -> torch.Tensor:
        """Sigmoid of the difference of the true rewards, (S, N)."""
        return torch.sigmoid(rewards[..., 0] - rewards[..., 1])


@dataclass(frozen=True, config=STRICT)
class Deterministic(Labels):
    """The response of the larger true reward is always preferred; a fair coin decides between equal ones."""

    def preference_probability(
        self, rewards: torch.Tensor, prompts: torch.Tensor, responses: torch.Tensor
    ) -> torch.Tensor:
        """1, 1/2 or 0 where r*(x, a) is above, at or below r*(x, b), (S, N)."""
        return (rewards[..., 0] - rewards[..., 1]).sign() / 2 + 0.5
