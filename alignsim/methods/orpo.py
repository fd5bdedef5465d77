"""Odds ratio preference optimization (Hong et al. 2024): likelihood and odds in one stage, no reference."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import DirectMethod, log_probs
from alignsim.methods.losses import orpo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class ORPO(DirectMethod):
    """`conf/method/orpo.yaml`. `weight` is lambda of the paper: how much the odds count beside the likelihood."""

    stage: ClassVar[str] = "orpo"

    policy_fit: PreferenceFitConfig = yaml_default("method/orpo", "policy_fit", PreferenceFitConfig)
    weight: PositiveFloat = yaml_default("method/orpo", "weight")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`orpo_loss` of each pair."""
        chosen, rejected = log_probs(policy, pairs)
        length = policy.env.output_dim
        return orpo_loss(chosen / length, rejected / length, self.weight)

    def score(self, policy: PolicyModel, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y|x), (S, B, K), which orders responses as their odds do."""
        return policy.log_prob(prompts, responses)
