"""Supervised fine-tuning: maximum likelihood on the chosen responses; rejected ones are not used."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import DirectMethod
from alignsim.methods.losses import sft_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class SFT(DirectMethod):
    """`conf/method/sft.yaml`."""

    stage: ClassVar[str] = "sft"

    policy_fit: PreferenceFitConfig = yaml_default("method/sft", "policy_fit", PreferenceFitConfig)

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`sft_loss` of each pair."""
        return sft_loss(policy.log_prob(pairs.prompts, pairs.responses[:, :, :1]).squeeze(-1))

    def score(self, policy: PolicyModel, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y|x), (S, B, K)."""
        return policy.log_prob(prompts, responses)
