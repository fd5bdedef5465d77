"""The configuration of both models, `conf/model/`: one kind of network for the policy and the reward model."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.models.made import MADE
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT)
class RewardModelConfig:
    """What only a reward model has: whether it `reads` the content of a response or its raw tokens."""

    reads: Literal["content", "tokens"] = "content"


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Both models get the same `network`, so that no difference between methods comes from architecture."""

    network: MADE = field(default_factory=MADE)
    reward: RewardModelConfig = field(default_factory=RewardModelConfig)

    def policy(self, env: Environment) -> PolicyModel:
        """A fresh policy, equal to the reference policy."""
        return PolicyModel(env, self.network)

    def reward_model(self, env: Environment, beta: float) -> RewardModel:
        """A fresh reward model, 0 everywhere."""
        return RewardModel(env, self.network, beta=beta, reads=self.reward.reads)
