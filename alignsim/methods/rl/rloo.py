"""REINFORCE with a leave-one-out baseline (Kool et al. 2019; Ahmadian et al. 2024), the KL term in the reward."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.methods.losses import rloo_loss
from alignsim.methods.on_policy import Batch
from alignsim.methods.rl.base import PolicyGradient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RLOO(PolicyGradient):
    """`conf/method/rl/rloo.yaml`.

    Attributes:
        samples_per_prompt: responses that the policy writes to each prompt, at least 2.
    """

    steps: PositiveInt = 2538
    learning_rate: PositiveFloat = 2.16e-3
    weight_decay: NonNegativeFloat = 0.235
    samples_per_prompt: Annotated[int, Field(ge=2)] = 4

    def loss(self, batch: Batch, beta: float) -> torch.Tensor:
        """`rloo_loss`, (S,)."""
        return rloo_loss(batch.rewards, batch.log_ratio, beta)
