"""REINFORCE (Williams 1992) with one baseline for the whole batch, the KL term in the reward."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.losses import kl_penalized_reward, leave_one_out_advantage
from alignsim.methods.on_policy import Batch
from alignsim.methods.rl.base import PolicyGradient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Reinforce(PolicyGradient):
    """`conf/method/rl/reinforce.yaml`. The baseline of a reward is the mean of all others of the batch.

    Attributes:
        prompts_per_step: fresh prompts in a step, at least 2.
    """

    steps: PositiveInt = yaml_default("method/rl/reinforce", "steps")
    prompts_per_step: Annotated[int, Field(ge=2)] = yaml_default("method/rl/reinforce", "prompts_per_step")
    samples_per_prompt: PositiveInt = yaml_default("method/rl/reinforce", "samples_per_prompt")
    learning_rate: PositiveFloat = yaml_default("method/rl/reinforce", "learning_rate")
    weight_decay: NonNegativeFloat = yaml_default("method/rl/reinforce", "weight_decay")
    warmup_steps: NonNegativeInt = yaml_default("method/rl/reinforce", "warmup_steps")

    def loss(self, batch: Batch, beta: float) -> torch.Tensor:
        """A loss whose gradient is an unbiased estimate of that of -(E[r] - beta KL(pi || ref)), (S,)."""
        # The KL term in the reward
        penalized = kl_penalized_reward(batch.rewards, batch.log_ratio.detach(), beta)
        # Baseline: the mean of all other rewards of the batch
        advantage = leave_one_out_advantage(penalized.flatten(1)).view_as(penalized)
        return -(advantage * batch.log_ratio).mean((1, 2))
