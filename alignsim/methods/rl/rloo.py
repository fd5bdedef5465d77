"""REINFORCE with a leave-one-out baseline (Kool et al. 2019; Ahmadian et al. 2024), the KL term in the reward."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.losses import rloo_loss
from alignsim.methods.on_policy import Batch
from alignsim.methods.rl.base import PolicyGradient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RLOO(PolicyGradient):
    """`conf/method/rl/rloo.yaml`.

    Attributes:
        samples_per_prompt: responses of the policy to each prompt, at least 2.
    """

    steps: PositiveInt = yaml_default("method/rl/rloo", "steps")
    prompts_per_step: PositiveInt = yaml_default("method/rl/rloo", "prompts_per_step")
    samples_per_prompt: Annotated[int, Field(ge=2)] = yaml_default("method/rl/rloo", "samples_per_prompt")
    learning_rate: PositiveFloat = yaml_default("method/rl/rloo", "learning_rate")
    weight_decay: NonNegativeFloat = yaml_default("method/rl/rloo", "weight_decay")
    warmup_steps: NonNegativeInt = yaml_default("method/rl/rloo", "warmup_steps")

    def loss(self, batch: Batch, beta: float) -> torch.Tensor:
        """`rloo_loss`, (S,)."""
        return rloo_loss(batch.rewards, batch.log_ratio, beta)
