"""Proximal policy optimization (Schulman et al. 2017) with a value network and the KL term in each token's reward."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.losses import clipped_surrogate, generalized_advantage
from alignsim.methods.on_policy import Batch
from alignsim.methods.rl.base import PolicyGradient
from alignsim.models.critic import ValueModel
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PPO(PolicyGradient):
    """`conf/method/rl/ppo.yaml`: each token is an action (Ziegler et al. 2019; Ouyang et al. 2022).

    The reward of a token is -beta log pi/ref, and the reward of the response is added to that of the last token. The
    value network has the architecture of the policy's network and parameters of its own.

    Attributes:
        epochs: gradient steps on the same responses.
        clip: how far the ratio of a token's probability to that at sampling may move from 1, above 0.
        gae_lambda: lambda of the generalized advantage, in [0, 1]; at 1 advantages do not rely on the value network.
    """

    steps: PositiveInt = yaml_default("method/rl/ppo", "steps")
    prompts_per_step: PositiveInt = yaml_default("method/rl/ppo", "prompts_per_step")
    samples_per_prompt: PositiveInt = yaml_default("method/rl/ppo", "samples_per_prompt")
    epochs: PositiveInt = yaml_default("method/rl/ppo", "epochs")
    clip: PositiveFloat = yaml_default("method/rl/ppo", "clip")
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = yaml_default("method/rl/ppo", "gae_lambda")
    learning_rate: PositiveFloat = yaml_default("method/rl/ppo", "learning_rate")
    weight_decay: NonNegativeFloat = yaml_default("method/rl/ppo", "weight_decay")
    warmup_steps: NonNegativeInt = yaml_default("method/rl/ppo", "warmup_steps")

    def critic(self, policy: PolicyModel) -> ValueModel:
        """The value network, which starts at 0 everywhere."""
        return ValueModel.beside(policy)

    @property
    def gradient_steps(self) -> int:
        """The epochs."""
        return self.epochs

    def loss(self, batch: Batch, beta: float) -> torch.Tensor:
        """-sum_t min(w_t A_t, clip(w_t) A_t) + sum_t (V_t - R_t)^2 / 2, (S,)."""
        assert isinstance(batch.critic, ValueModel)
        log_ratio = batch.policy.token_log_ratio(batch.prompts, batch.responses)  # (S, B, K, T)
        values = batch.critic.values(batch.prompts, batch.responses)  # (S, B, K, T)
        if batch.epoch == 0:
            # Generalized advantage estimation, the KL term in each token's reward
            batch.token_log_ratio, old_values = log_ratio.detach(), values.detach()
            rewards = token_rewards(batch.rewards, batch.token_log_ratio, beta)
            batch.advantages = generalized_advantage(rewards, old_values, self.gae_lambda)
            batch.returns = batch.advantages + old_values
        # Clipped surrogate
        gain = clipped_surrogate(log_ratio - batch.token_log_ratio, batch.advantages, self.clip)
        # Value loss
        return ((values - batch.returns).square() / 2 - gain).sum(-1).mean((1, 2))


def token_rewards(rewards: torch.Tensor, log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """The reward of each token, -beta log pi/ref, plus r for the last one: (S, B, K), (S, B, K, T) -> (S, B, K, T)."""
    token_reward = -beta * log_ratio
    token_reward[..., -1] += rewards
    return token_reward
