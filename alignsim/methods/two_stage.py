"""The base of two-stage methods: a reward model is fitted to the pairs, and the second stage learns from it alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field

from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_values
from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.methods.base import Method, Monitor, TrainingInputs, TrainingResult, fitted
from alignsim.methods.losses import bradley_terry_loss
from alignsim.methods.preference_fit import PreferenceFitConfig, fit_to_preferences
from alignsim.models.config import ModelConfig
from alignsim.models.policy import Policy
from alignsim.models.reward import RewardModel


def default_reward_fit() -> PreferenceFitConfig:
    """How the reward model of RLHF is fitted, as `conf/method/rlhf.yaml` says."""
    return PreferenceFitConfig(**yaml_values("method/rlhf")["reward_fit"])


@dataclass(frozen=True, config=STRICT)
class TwoStageMethod(Method):
    """A method whose first stage fits a reward model. A subclass defines the second stage.

    Attributes:
        reward_fit: how the reward model is fitted to the pairs.
    """

    reward_fit: PreferenceFitConfig = field(default_factory=default_reward_fit)

    @abstractmethod
    def policy_for(self, reward_model: RewardModel, inputs: TrainingInputs) -> Policy:
        """The second stage: a policy for the learned reward. The reward model is evaluated and not trained any more."""

    def train(self, inputs: TrainingInputs) -> TrainingResult:
        """Fit a reward model to the pairs, then make a policy for it."""
        reward_model = train_reward_model(
            inputs.env,
            inputs.data,
            beta=inputs.beta,
            model=inputs.model,
            settings=self.reward_fit,
            monitor=inputs.monitor,
        )
        policy = self.policy_for(reward_model, inputs)
        return TrainingResult(policy, fitted(reward_model), scorer=reward_model, reward_model=reward_model)


def train_reward_model(
    env: Environment,
    data: PreferenceData | None = None,
    *,
    beta: float = 0.5,
    model: ModelConfig | None = None,
    settings: PreferenceFitConfig | None = None,
    monitor: Monitor | None = None,
) -> RewardModel:
    """Fit a fresh reward model to preference pairs by maximum likelihood, every seed of the environment at once.

    Args:
        env: the environment, stacked over its seeds.
        data: the pairs, by default `env.preference_data()`.
        beta: scale of the reward model's output, above 0: the weight of the KL term of the RL that follows.
        model: the models' configuration.
        settings: how the reward model is fitted, by default as that of `RLHF`.
        monitor: gets the losses.

    Returns:
        The reward model of the best validation loss of each seed; its `fit` says which step that was.
    """
    reward_model = (model or ModelConfig()).new_reward_model(env, beta)
    data = data or env.preference_data()
    train, validation = (Preferences(p.prompts, reward_model.view(p.responses)) for p in (data.train, data.validation))

    def loss(reward_model: RewardModel, pairs: Preferences) -> torch.Tensor:
        chosen, rejected = reward_model.reward_of_view(pairs.prompts, pairs.responses).unbind(-1)
        return bradley_terry_loss(chosen, rejected)

    fit_to_preferences(
        reward_model,
        loss,
        PreferenceData(train, validation),
        settings or default_reward_fit(),
        stage="reward_model",
        monitor=monitor or Monitor(),
    )
    return reward_model
