"""Direct preference optimization (Rafailov et al. 2023): the implicit reward of the policy is fitted to the pairs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.methods.base import Monitor, TrainingInputs
from alignsim.methods.direct import DirectMethod, log_ratios
from alignsim.methods.losses import dpo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.models.config import ModelConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class DPO(DirectMethod):
    """`conf/method/dpo.yaml`.

    Attributes:
        beta: weight of the KL term that the loss assumes, above 0. None takes the beta of the run; on infinitely many
            pairs the optimum of the loss is then the best policy.
    """

    stage: ClassVar[str] = "dpo"

    policy_fit: PreferenceFitConfig = yaml_default("method/dpo", "policy_fit", PreferenceFitConfig)
    beta: PositiveFloat | None = None

    def beta_of_loss(self, beta: float) -> float:
        """The method's own beta where it has one, else the beta of the run."""
        return self.beta or beta

    def loss(self, policy: PolicyModel, pairs: Preferences, beta: float) -> torch.Tensor:
        """`dpo_loss` of each pair."""
        return dpo_loss(*log_ratios(policy, pairs), beta)


def train_policy_with_dpo(
    env: Environment,
    data: PreferenceData | None = None,
    *,
    beta: float = 0.5,
    model: ModelConfig | None = None,
    settings: PreferenceFitConfig | None = None,
    monitor: Monitor | None = None,
) -> PolicyModel:
    """Fit a fresh policy to preference pairs with the DPO loss, every seed of the environment at once.

    Args:
        env: the environment, stacked over its seeds.
        data: the pairs, by default `env.preference_data()`.
        beta: weight of the KL term, above 0.
        model: the models' configuration.
        settings: how the policy is fitted.
        monitor: gets the losses.

    Returns:
        The policy of the best validation loss of each seed; its `fit` says which step that was.
    """
    inputs = TrainingInputs(env, data or env.preference_data(), model or ModelConfig(), beta, monitor or Monitor())
    policy = (DPO(policy_fit=settings) if settings else DPO()).train(inputs).policy
    assert isinstance(policy, PolicyModel)
    return policy
