"""REINFORCE (Williams 1992) with one baseline for the whole batch, the KL term in the reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.methods.losses import kl_penalised_reward, leave_one_out_advantage
from alignsim.methods.rl.base import Batch, PolicyGradient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Reinforce(PolicyGradient):
    """`conf/method/rl/reinforce.yaml`: each reward less the mean of all others of the seed's batch, unbiased.

    Attributes:
        prompts: fresh prompts in a step, at least 2.
    """

    steps: PositiveInt = 2538
    learning_rate: PositiveFloat = 2.16e-3
    weight_decay: NonNegativeFloat = 0.235
    prompts: Annotated[int, Field(ge=2)] = 32

    def losses(self, batch: Batch, beta: float) -> Iterator[torch.Tensor]:
        """One, whose gradient is an unbiased estimate of that of -(E[r] - beta KL(pi || ref))."""
        penalised = kl_penalised_reward(batch.rewards, batch.log_ratio.detach(), beta)
        advantage = leave_one_out_advantage(penalised.flatten(1)).view_as(penalised)
        yield -(advantage * batch.log_ratio).mean((1, 2))
