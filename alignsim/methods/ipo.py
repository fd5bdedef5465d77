"""Identity preference optimization (Azar et al. 2023): a bounded target for the log-ratios, no sigmoid."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.direct import TemperedMethod, log_ratios
from alignsim.methods.optimizer import tuned
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.policy import PolicyModel


def ipo_loss(chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, tau: float) -> torch.Tensor:
    """(log pi/ref (chosen) - log pi/ref (rejected) - 1 / (2 tau))^2, elementwise.

    Azar et al. 2023, equation 17. The log-ratios are sums over tokens, as in the paper; some libraries take means.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the same of the rejected ones.
        tau: weight of the KL term in IPO's own objective E[P(y beats ref)] - tau KL, above 0.
    """
    return (chosen_log_ratio - rejected_log_ratio - 1 / (2 * tau)) ** 2


@dataclass(frozen=True, config=STRICT)
class IPO(TemperedMethod):
    """`conf/method/ipo.yaml`. The temperature is the paper's tau: it weighs a probability of winning, not a reward."""

    stage: ClassVar[str] = "ipo"

    policy_fit: PreferenceFitConfig = tuned(PreferenceFitConfig, steps=1985, learning_rate=3.45e-3, weight_decay=0.452)
    temperature: PositiveFloat = 0.114

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`ipo_loss` of each pair."""
        return ipo_loss(*log_ratios(policy, pairs), beta)
