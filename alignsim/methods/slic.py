"""Sequence likelihood calibration (Zhao et al. 2023): a hinge on the difference of log-ratios."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import TemperedMethod, log_ratios
from alignsim.methods.losses import slic_loss
from alignsim.methods.optimizer import tuned
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class SLiC(TemperedMethod):
    """`conf/method/slic.yaml`."""

    stage: ClassVar[str] = "slic"

    policy_fit: PreferenceFitConfig = tuned(PreferenceFitConfig, steps=2582, learning_rate=5.59e-3, weight_decay=0.387)
    temperature: PositiveFloat = 1.07

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`slic_loss` of each pair."""
        return slic_loss(*log_ratios(policy, pairs), beta)
