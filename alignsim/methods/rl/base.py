"""What optimisers of a policy against a reward share: a subclass for each file of `conf/method/rl/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.problems import ConfigurationError
from alignsim.config.schema import STRICT, Component
from alignsim.methods.base import Monitor
from alignsim.methods.on_policy import PolicyFit, Reward, Stage, Step, fresh_responses, take_steps
from alignsim.models.base import StackedModel
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PolicyOptimiser(Component, PolicyFit, ABC):
    """How a policy is improved against a reward: the fields of a subclass are its configuration."""

    @abstractmethod
    def stage(self, policy: PolicyModel, reward: Reward, beta: float) -> Stage:
        """What is trained, and on what."""

    def improve(self, policy: PolicyModel, reward: Reward, beta: float, *, phase: str, monitor: Monitor) -> None:
        """Ascend E[r(x, y)] - beta KL(pi || ref). The last weights are kept.

        Args:
            policy: trained in place.
            reward: of responses; a learned or the true one.
            beta: weight of the KL term, above 0.
            phase: the stage's name for the monitor.
            monitor: hears the mean reward, KL and objective of the samples since the last report.

        Raises:
            ConfigurationError: this cannot be done in the policy's environment.
        """
        if found := self.problems(policy.env):
            raise ConfigurationError(found)
        take_steps(policy, self.stage(policy, reward, beta), self, beta, phase=phase, monitor=monitor)


class Batch(NamedTuple):
    """Responses that the policy wrote, and what is trained on them.

    Attributes:
        policy: as it is now; in the first gradient step of a batch it is the one that wrote the responses.
        critic: what is trained beside the policy, if anything.
        prompts: (S, B, D).
        responses: (S, B, K, T).
        rewards: (S, B, K).
        log_ratio: log pi - log ref of the responses, (S, B, K); its gradient can be taken once, before the first step.
    """

    policy: PolicyModel
    critic: StackedModel | None
    prompts: torch.Tensor
    responses: torch.Tensor
    rewards: torch.Tensor
    log_ratio: torch.Tensor


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PolicyGradient(PolicyOptimiser):
    """An optimiser that learns from sampled responses of the policy: a subclass says which losses follow from them.

    Attributes:
        samples: responses that the policy writes to each prompt.
    """

    samples: PositiveInt = 4

    @abstractmethod
    def losses(self, batch: Batch, beta: float) -> Iterator[torch.Tensor]:
        """One loss for each gradient step on a batch, (S,); the policy has taken the step when the next is asked for.

        Args:
            batch: K independent responses of the policy to each of B prompts.
            beta: weight of the KL term, above 0.
        """

    def critic(self, policy: PolicyModel) -> StackedModel | None:
        """A model that is trained beside the policy, by the same losses."""
        return None

    def stage(self, policy: PolicyModel, reward: Reward, beta: float) -> Stage:
        """The policy and the critic, trained on batches of fresh prompts and responses."""
        critic, write = self.critic(policy), fresh_responses(policy, reward, self.prompts, self.samples)
        of_critic = {f"critic.{name}": p for name, p in critic.parameters.items()} if critic else {}

        def steps(n_steps: int, block: int) -> Iterator[Step]:
            for written in write(n_steps, block):
                losses = self.losses(Batch(policy, critic, *written), beta)
                yield Step(written.rewards, written.log_ratio, losses)

        return Stage(policy.parameters | of_critic, steps)
