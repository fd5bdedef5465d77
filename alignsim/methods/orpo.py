"""Odds ratio preference optimization (Hong et al. 2024): likelihood and odds in one stage, no reference."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import DirectMethod, log_probs
from alignsim.methods.optimizer import tuned
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


def orpo_loss(chosen_mean_log_prob: torch.Tensor, rejected_mean_log_prob: torch.Tensor, weight: float) -> torch.Tensor:
    """-m(chosen) - weight log sigmoid(log odds(chosen) - log odds(rejected)), in nats for a token, elementwise.

    Hong et al. 2024, equations 6 and 7: m = log pi(y|x) / |y| and odds = exp(m) / (1 - exp(m)), both of the mean over
    tokens.

    Args:
        chosen_mean_log_prob: m of the chosen responses, below 0, any shape.
        rejected_mean_log_prob: the same of the rejected ones.
        weight: lambda of the paper, above 0.
    """
    log_odds = _log_odds(chosen_mean_log_prob) - _log_odds(rejected_mean_log_prob)
    return -chosen_mean_log_prob - weight * torch.nn.functional.logsigmoid(log_odds)


def _log_odds(log_prob: torch.Tensor) -> torch.Tensor:
    """Log of p / (1 - p), finite also where p rounds to 1."""
    return log_prob - torch.log(-torch.expm1(log_prob.clamp(max=-1e-7)))


@dataclass(frozen=True, config=STRICT)
class ORPO(DirectMethod):
    """`conf/method/orpo.yaml`. `weight` is lambda of the paper: how much the odds count beside the likelihood."""

    stage: ClassVar[str] = "orpo"

    policy_fit: PreferenceFitConfig = tuned(PreferenceFitConfig, steps=1283, learning_rate=5.37e-3, weight_decay=0.0256)
    weight: PositiveFloat = 4.66

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`orpo_loss` of each pair."""
        chosen, rejected = log_probs(policy, pairs)
        length = policy.env.output_dim
        return orpo_loss(chosen / length, rejected / length, self.weight)

    def score(self, policy: PolicyModel, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi, in the order of the odds."""
        return policy.log_prob(prompts, responses)
