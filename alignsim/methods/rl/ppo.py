"""Proximal policy optimisation (Schulman et al. 2017) with a value network and the KL term in each token's reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.methods.losses import clipped_surrogate, generalised_advantage
from alignsim.methods.rl.base import Batch, PolicyGradient
from alignsim.models.critic import ValueModel
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PPO(PolicyGradient):
    """`conf/method/rl/ppo.yaml`: each token is an action (Ziegler et al. 2019; Ouyang et al. 2022).

    A token's reward is -beta log pi/ref of it, the last one's with the response's reward added. The value network is
    one like the policy's, with parameters of its own.

    Attributes:
        inner_steps: gradient steps on the same responses.
        clip: how far the ratio of a token's probability to that when it was written may move from 1, above 0.
        gae_lambda: how far advantages look ahead of the value network, in [0, 1]; at 1 to the end, without bias.
    """

    steps: PositiveInt = 1908
    learning_rate: PositiveFloat = 1.22e-3
    weight_decay: NonNegativeFloat = 0.167
    inner_steps: PositiveInt = 2
    clip: PositiveFloat = 0.2
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95

    def critic(self, policy: PolicyModel) -> ValueModel:
        """The value network, 0 everywhere."""
        return ValueModel.beside(policy)

    def losses(self, batch: Batch, beta: float) -> Iterator[torch.Tensor]:
        """-sum_t min(w_t A_t, clip(w_t) A_t) + sum_t (V_t - R_t)^2 / 2, for each inner step."""
        policy, critic, prompts, responses = batch.policy, batch.critic, batch.prompts, batch.responses
        assert isinstance(critic, ValueModel)
        written: torch.Tensor | None = None
        for _ in range(self.inner_steps):
            log_ratio, values = policy.token_log_ratio(prompts, responses), critic.values(prompts, responses)
            if written is None:
                written, before = log_ratio.detach(), values.detach()
                rewards = token_rewards(batch.rewards, written, beta)
                advantages = generalised_advantage(rewards, before, self.gae_lambda)
                returns = advantages + before
            gain = clipped_surrogate(log_ratio - written, advantages, self.clip)
            yield ((values - returns).square() / 2 - gain).sum(-1).mean((1, 2))


def token_rewards(rewards: torch.Tensor, log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """The reward of each token, (S, B, K), (S, B, K, T) -> (S, B, K, T): -beta log pi/ref, and r with the last one."""
    of_each = -beta * log_ratio
    of_each[..., -1] += rewards
    return of_each
