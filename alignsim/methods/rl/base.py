"""The base classes of policy optimizers, which improve a policy against a reward; `conf/method/rl/` has their files."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.problems import ConfigurationError
from alignsim.config.schema import STRICT, Component
from alignsim.methods.base import Monitor
from alignsim.methods.on_policy import Batch, OnPolicyConfig, OnPolicyLearner, Reward, SampledLearner, train_on_policy
from alignsim.models.base import StackedModel
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PolicyOptimizer(Component, OnPolicyConfig, ABC):
    """An optimizer of a policy against a reward. The fields of a subclass are its configuration."""

    @abstractmethod
    def learner(self, policy: PolicyModel, reward: Reward, beta: float) -> OnPolicyLearner:
        """The learner that the training loop steps."""

    def improve(self, policy: PolicyModel, reward: Reward, beta: float, *, stage: str, monitor: Monitor) -> None:
        """Ascend E[r(x, y)] - beta KL(pi || ref). The last weights are kept.

        Args:
            policy: trained in place.
            reward: the reward of responses, a learned one or the true one.
            beta: weight of the KL term, above 0.
            stage: the name of the stage for the monitor.
            monitor: gets the mean reward, KL and objective of the samples since the last report.

        Raises:
            ConfigurationError: the optimizer cannot work in the policy's environment.
        """
        if problems := self.problems(policy.env):
            raise ConfigurationError(problems)
        train_on_policy(self.learner(policy, reward, beta), policy, self, beta, stage=stage, monitor=monitor)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PolicyGradient(PolicyOptimizer):
    """An optimizer that learns from sampled responses of the policy. A subclass defines the loss.

    Attributes:
        samples_per_prompt: responses that the policy generates to each prompt.
    """

    samples_per_prompt: PositiveInt = 4

    @abstractmethod
    def loss(self, batch: Batch, beta: float) -> torch.Tensor:
        """The loss of each seed in the current epoch of a batch, (S,).

        Args:
            batch: K independent responses of the policy to each of B prompts.
            beta: weight of the KL term, above 0.
        """

    @property
    def gradient_steps(self) -> int:
        """Gradient steps on each batch of responses, the `epochs` of the learner."""
        return 1

    def critic(self, policy: PolicyModel) -> StackedModel | None:
        """A model that is trained together with the policy, by the same loss; None where there is none."""
        return None

    def learner(self, policy: PolicyModel, reward: Reward, beta: float) -> OnPolicyLearner:
        """A learner of the policy and the critic on batches of fresh prompts and responses."""
        return _PolicyGradientLearner(self, policy, reward, beta)


class _PolicyGradientLearner(SampledLearner):
    """Learns by the loss of a `PolicyGradient`."""

    def __init__(self, optimizer: PolicyGradient, policy: PolicyModel, reward: Reward, beta: float) -> None:
        super().__init__(policy, reward, optimizer.prompts_per_step, optimizer.samples_per_prompt)
        self._optimizer, self._beta, self.epochs = optimizer, beta, optimizer.gradient_steps
        self._critic = optimizer.critic(policy)
        if self._critic is not None:
            self.parameters |= {f"critic.{name}": p for name, p in self._critic.parameters.items()}

    def batch(self, index: int) -> Batch:
        batch = super().batch(index)
        batch.critic = self._critic
        return batch

    def loss(self, batch: Batch) -> torch.Tensor:
        return self._optimizer.loss(batch, self._beta)
