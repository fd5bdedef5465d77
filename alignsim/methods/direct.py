"""What direct preference methods share: the policy itself is fitted to the pairs, without a reward model."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.base import Method, TrainingInputs, TrainingResult, fitted
from alignsim.methods.preference_fit import PreferenceFitConfig, fit_to_preferences
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class DirectMethod(Method):
    """A method that is a loss on pairs. A subclass defines which loss.

    Attributes:
        policy_fit: how the policy is fitted to the pairs.
    """

    #: The name of its only stage, in logs and training curves; a subclass may have one of its own.
    stage: ClassVar[str] = "policy"

    policy_fit: PreferenceFitConfig = field(default_factory=PreferenceFitConfig)

    @abstractmethod
    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """The loss of each pair, (S, B), differentiable by the policy's parameters.

        Args:
            policy: the policy of the seeds that still improve, or of all seeds.
            pairs: a batch of pairs of the same seeds.
            beta: weight of the KL term, above 0.
        """

    def beta_of_loss(self, beta: float) -> float:
        """The `beta` that `loss` gets, from the beta of the run."""
        return beta

    def score(self, policy: PolicyModel, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """The implicit reward up to scale and a function of the prompt: (S, B, D), (S, B, K, T) -> (S, B, K).

        It is log pi/ref unless a subclass defines another one.
        """
        return policy.log_ratio(prompts, responses)

    def train(self, inputs: TrainingInputs) -> TrainingResult:
        """Fit a fresh policy to the pairs; each seed keeps the weights of its best validation loss."""
        policy, beta = inputs.model.new_policy(inputs.env), self.beta_of_loss(inputs.beta)
        fit_to_preferences(
            policy,
            lambda part, pairs: self._checked(self.loss(part, pairs, beta), pairs),
            inputs.data,
            self.policy_fit,
            stage=self.stage,
            monitor=inputs.monitor,
        )
        return TrainingResult(policy, fitted(policy), lambda prompts, responses: self.score(policy, prompts, responses))

    def _checked(self, losses: torch.Tensor, pairs: Preferences) -> torch.Tensor:
        """Return the losses unchanged.

        Raises:
            ValueError: their shape is not (S, B), one for each pair.
        """
        if losses.shape != (expected := pairs.prompts.shape[:2]):
            message = f"{type(self).__name__}.loss gave a tensor of shape {tuple(losses.shape)}"
            raise ValueError(f"{message}; it must give one loss for each pair: (S, B) = {tuple(expected)}")
        return losses


@dataclass(frozen=True, config=STRICT)
class TemperedMethod(DirectMethod):
    """A direct method with a temperature of its own, since no temperature gives it the optimum of E[r] - beta KL.

    Attributes:
        temperature: in units of the run's beta, above 0.
    """

    temperature: PositiveFloat = 1.0

    def beta_of_loss(self, beta: float) -> float:
        """The temperature times the beta of the run."""
        return self.temperature * beta


def log_ratios(policy: PolicyModel, pairs: Preferences) -> tuple[torch.Tensor, torch.Tensor]:
    """Log pi/ref of the chosen and the rejected responses, (S, B) each, differentiable."""
    chosen, rejected = policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1)
    return chosen, rejected


def log_probs(policy: PolicyModel, pairs: Preferences) -> tuple[torch.Tensor, torch.Tensor]:
    """Log pi of the chosen and the rejected responses, sums over their tokens, (S, B) each, differentiable."""
    chosen, rejected = policy.log_prob(pairs.prompts, pairs.responses).unbind(-1)
    return chosen, rejected
