"""Conservative DPO (Mitchell 2023): DPO with smoothed labels."""

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
from alignsim.methods.losses import cdpo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class CDPO(DPO):
    """`conf/method/cdpo.yaml`. `label_noise` is the assumed share of flipped labels, in [0, 0.5)."""

    stage: ClassVar[str] = "cdpo"

    policy_fit: PreferenceFitConfig = yaml_default("method/cdpo", "policy_fit", PreferenceFitConfig)
    label_noise: Annotated[float, Field(ge=0, lt=0.5)] = yaml_default("method/cdpo", "label_noise")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`cdpo_loss` of each pair."""
        return cdpo_loss(*log_ratios(policy, pairs), beta, self.label_noise)
