"""Direct preference optimisation (Rafailov et al. 2023): the policy is fitted to the pairs, with no reward model."""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment, PreferenceData, Preferences
from alignsim.lazy import torch
from alignsim.methods.base import Method, Monitor, Task, Trained, fitted
from alignsim.methods.losses import dpo_loss
from alignsim.methods.supervised import Supervised, fit_to_preferences
from alignsim.models.config import ModelConfig
from alignsim.models.policy import PolicyModel


@dataclass(frozen=True, config=STRICT)
class DPO(Method):
    """`conf/method/dpo.yaml`. `supervised` is how the policy is fitted to the pairs."""

    supervised: Supervised = field(default_factory=Supervised)

    def train(self, task: Task) -> Trained:
        """Fit a policy to the pairs."""
        policy = train_policy_with_dpo(
            task.env, task.data, beta=task.beta, model=task.model, settings=self.supervised, monitor=task.monitor
        )
        return Trained(policy, fitted(policy), scorer=policy.log_ratio)


def train_policy_with_dpo(
    env: Environment,
    data: PreferenceData | None = None,
    *,
    beta: float = 0.5,
    model: ModelConfig | None = None,
    settings: Supervised | None = None,
    monitor: Monitor | None = None,
) -> PolicyModel:
    """Fit a fresh policy to preference pairs with the DPO loss, every seed of the environment at once.

    Args:
        env: the environment, stacked over its seeds.
        data: the pairs, by default `env.preferences()`.
        beta: weight of the KL term, above 0.
        model: the models' configuration.
        settings: how the policy is fitted.
        monitor: hears the losses.

    Returns:
        The policy of the best validation loss of each seed; its `fit` says which step that was.
    """
    policy = (model or ModelConfig()).policy(env)

    def loss(policy: PolicyModel, pairs: Preferences) -> torch.Tensor:
        chosen, rejected = policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1)
        return dpo_loss(chosen, rejected, beta)

    fit_to_preferences(
        policy,
        loss,
        data or env.preferences(),
        settings or Supervised(),
        phase="dpo",
        monitor=monitor or Monitor(),
    )
    return policy
