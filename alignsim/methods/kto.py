"""Kahneman-Tversky optimization (Ethayarajh et al. 2024): each response is good or bad on its own, no pairs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import TemperedMethod
from alignsim.methods.losses import kto_loss, reference_point
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class KTO(TemperedMethod):
    """`conf/method/kto.yaml`. Every pair is one desirable and one undesirable response to a prompt.

    Attributes:
        desirable_weight: lambda_D of the paper, above 0.
        undesirable_weight: lambda_U of the paper, above 0.
    """

    stage: ClassVar[str] = "kto"

    policy_fit: PreferenceFitConfig = yaml_default("method/kto", "policy_fit", PreferenceFitConfig)
    temperature: PositiveFloat = yaml_default("method/kto", "temperature")
    desirable_weight: PositiveFloat = yaml_default("method/kto", "desirable_weight")
    undesirable_weight: PositiveFloat = yaml_default("method/kto", "undesirable_weight")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """Mean `kto_loss` of the two responses of each pair; z0 pairs each prompt with the responses to the next.

        In a batch of one pair z0 comes from the pair itself. Validation pairs are evaluated in parts, each with a z0 of
        its own, as batches are.
        """
        with torch.no_grad():
            mismatched = policy.log_ratio(pairs.prompts, pairs.responses.roll(-1, 1))
        log_ratio = policy.log_ratio(pairs.prompts, pairs.responses)
        is_desirable = torch.arange(2, device=log_ratio.device) == 0
        weights = self.desirable_weight, self.undesirable_weight
        return kto_loss(log_ratio, is_desirable, reference_point(mismatched), beta, weights).mean(-1)
