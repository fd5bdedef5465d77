"""Sequence likelihood calibration (Zhao et al. 2023): a hinge on the difference of log-ratios."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import TemperedMethod, log_ratios
from alignsim.methods.losses import slic_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class SLiC(TemperedMethod):
    """`conf/method/slic.yaml`."""

    stage: ClassVar[str] = "slic"

    policy_fit: PreferenceFitConfig = yaml_default("method/slic", "policy_fit", PreferenceFitConfig)
    temperature: PositiveFloat = yaml_default("method/slic", "temperature")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`slic_loss` of each pair."""
        return slic_loss(*log_ratios(policy, pairs), beta)
