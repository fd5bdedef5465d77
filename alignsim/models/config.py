"""The configuration of both models, `conf/model/`: by default one kind of network for policy and reward model."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT, Component
from alignsim.envs.base import Environment
from alignsim.models.made import MADE
from alignsim.models.network import Network
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel, unreadable


@dataclass(frozen=True, config=STRICT)
class RewardModelConfig:
    """The part of the configuration that only reward models have.

    Attributes:
        reads: the content of a response, or its raw tokens.
        head: the way in which the reward is computed from the network, see `RewardModel`.
        network: its network, of any class and size; None for the same as the policy's.
    """

    reads: Literal["content", "tokens"] = "content"
    head: Literal["tokenwise", "scalar", "implicit"] = "tokenwise"
    network: Network | None = None

    @field_validator("head")
    @classmethod
    def _can_be_read(cls, head: str, info: ValidationInfo) -> str:
        if problem := unreadable(head, info.data.get("reads", "")):
            raise ValueError(problem)
        return head


@dataclass(frozen=True, config=STRICT)
class ModelConfig(Component):
    """Unless `reward` has a network of its own, no difference between methods comes from architecture."""

    policy: Network = field(default_factory=MADE)
    reward: RewardModelConfig = field(default_factory=RewardModelConfig)

    def new_policy(self, env: Environment) -> PolicyModel:
        """A fresh policy, equal to the reference policy."""
        return PolicyModel(env, self.policy)

    def new_reward_model(self, env: Environment, beta: float) -> RewardModel:
        """A fresh reward model, 0 everywhere."""
        reward = self.reward
        return RewardModel(env, reward.network or self.policy, beta=beta, reads=reward.reads, head=reward.head)
