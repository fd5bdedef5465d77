"""Sequence likelihood calibration (Zhao et al. 2023): a hinge on the difference of log-ratios."""

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


def slic_loss(chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """max(0, 1 - beta [log pi/ref (chosen) - log pi/ref (rejected)]), elementwise.

    The rank calibration loss of Zhao et al. 2023, section 2.2, with the log-ratios of Liu et al. 2023 (RSO, equation
    10) and so with margin 1 / beta; where the reference is uniform, log-ratios and the paper's log-probabilities give
    the same differences. The paper's term toward a fine-tuned policy is left out.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the same of the rejected ones.
        beta: one over the margin, above 0.
    """
    return (1 - beta * (chosen_log_ratio - rejected_log_ratio)).relu()


@dataclass(frozen=True, config=STRICT)
class SLiC(TemperedMethod):
    """`conf/method/slic.yaml`."""

    stage: ClassVar[str] = "slic"

    policy_fit: PreferenceFitConfig = tuned(PreferenceFitConfig, steps=2582, learning_rate=5.59e-3, weight_decay=0.387)
    temperature: PositiveFloat = 1.07

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`slic_loss` of each pair."""
        return slic_loss(*log_ratios(policy, pairs), beta)
