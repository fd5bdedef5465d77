"""Simple preference optimization (Meng et al. 2024): mean log-probabilities, a margin, no reference."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import DirectMethod, log_probs
from alignsim.methods.losses import simpo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class SimPO(DirectMethod):
    """`conf/method/simpo.yaml`. `logit_scale` and `gamma` are beta and gamma of the paper.

    It uses neither the reference policy nor the beta of the run.
    """

    stage: ClassVar[str] = "simpo"

    policy_fit: PreferenceFitConfig = yaml_default("method/simpo", "policy_fit", PreferenceFitConfig)
    logit_scale: PositiveFloat = yaml_default("method/simpo", "logit_scale")
    gamma: NonNegativeFloat = yaml_default("method/simpo", "gamma")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`simpo_loss` of each pair."""
        chosen, rejected = log_probs(policy, pairs)
        length = policy.env.output_dim
        return simpo_loss(chosen / length, rejected / length, self.logit_scale, self.gamma)

    def score(self, policy: PolicyModel, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y|x), (S, B, K), which orders responses as its mean over tokens does: all have the same length."""
        return policy.log_prob(prompts, responses)
