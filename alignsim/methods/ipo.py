"""Identity preference optimization (Azar et al. 2023): a bounded target for the log-ratios, no sigmoid."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import TemperedMethod, log_ratios
from alignsim.methods.losses import ipo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class IPO(TemperedMethod):
    """`conf/method/ipo.yaml`. The temperature is the paper's tau: it weighs a probability of winning, not a reward."""

    stage: ClassVar[str] = "ipo"

    policy_fit: PreferenceFitConfig = yaml_default("method/ipo", "policy_fit", PreferenceFitConfig)
    temperature: PositiveFloat = yaml_default("method/ipo", "temperature")

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`ipo_loss` of each pair."""
        return ipo_loss(*log_ratios(policy, pairs), beta)
