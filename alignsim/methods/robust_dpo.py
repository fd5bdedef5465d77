"""Robust DPO (Chowdhury et al. 2024): the DPO loss, unbiased under labels flipped at a known rate."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import log_ratios
from alignsim.methods.dpo import DPO
from alignsim.methods.losses import robust_dpo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class RobustDPO(DPO):
    """`conf/method/robust_dpo.yaml`. `label_noise` is the assumed share of flipped labels, in [0, 0.5)."""

    stage: ClassVar[str] = "robust_dpo"

    policy_fit: PreferenceFitConfig = yaml_default("method/robust_dpo", "policy_fit", PreferenceFitConfig)
    label_noise: Annotated[float, Field(ge=0, lt=0.5)] = yaml_default("method/robust_dpo", "label_noise")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`robust_dpo_loss` of each pair."""
        return robust_dpo_loss(*log_ratios(policy, pairs), beta, self.label_noise)
