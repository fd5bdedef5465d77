"""Online DPO (Guo et al. 2024): the DPO loss on fresh samples of the policy, labeled by a learned or the true reward.

With a learned reward it has the two stages of RLHF, and in the second the loss of DPO on on-policy pairs.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.base import Method, Monitor, TrainingInputs, TrainingResult
from alignsim.methods.losses import labeled_dpo_loss
from alignsim.methods.on_policy import Batch, OnPolicyConfig, Reward, SampledLearner, train_on_policy
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel

#: Whether a label is sampled, or both labels count, weighted by their probabilities.
Labels = Literal["sampled", "expected"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OnlinePairsConfig(OnPolicyConfig):
    """How a policy is fitted to pairs of its own samples.

    Attributes:
        prompts_per_step: fresh prompts in a step, one pair for each.
        labels: `sampled` from the Bradley-Terry model, or `expected`: the mean of the loss over both labels. They are
            equal on average; the second has less noise, but needs a labeler that gives probabilities.
    """

    prompts_per_step: PositiveInt = yaml_default("method/online_dpo", "on_policy.prompts_per_step")
    labels: Labels = yaml_default("method/online_dpo", "on_policy.labels")


@dataclass(frozen=True, config=STRICT)
class OnlineDPO(TwoStageMethod):
    """`conf/method/online_dpo.yaml`: online DPO labeled by a reward model that was fitted to the given pairs.

    Attributes:
        on_policy: how the policy is fitted to pairs of its own samples.
    """

    reward_fit: PreferenceFitConfig = yaml_default("method/online_dpo", "reward_fit", PreferenceFitConfig)
    on_policy: OnlinePairsConfig = yaml_default("method/online_dpo", "on_policy", OnlinePairsConfig)

    def policy_for(self, reward_model: RewardModel, inputs: TrainingInputs) -> PolicyModel:
        """Fit a fresh policy to pairs of its own samples, which the reward model labels."""
        policy = inputs.model.new_policy(inputs.env)
        fit_to_own_pairs(policy, reward_model, self.on_policy, beta=inputs.beta, monitor=inputs.monitor)
        return policy


@dataclass(frozen=True, config=STRICT)
class OracleOnlineDPO(Method):
    """`conf/method/online_dpo_oracle.yaml`: online DPO labeled by the true reward. It does not use the given pairs.

    Labels follow the Bradley-Terry model without noise, whatever the labels of the environment are.

    Attributes:
        on_policy: how the policy is fitted to pairs of its own samples.
    """

    on_policy: OnlinePairsConfig = yaml_default("method/online_dpo_oracle", "on_policy", OnlinePairsConfig)

    def train(self, inputs: TrainingInputs) -> TrainingResult:
        """Fit a policy to pairs of its own samples, which the true reward labels."""
        policy = inputs.model.new_policy(inputs.env)
        fit_to_own_pairs(policy, inputs.env.reward, self.on_policy, beta=inputs.beta, monitor=inputs.monitor)
        return TrainingResult(policy, None, scorer=policy.log_ratio)


def fit_to_own_pairs(
    policy: PolicyModel, reward: Reward, config: OnlinePairsConfig, *, beta: float, monitor: Monitor
) -> None:
    """Descend the DPO loss on fresh pairs of the policy, one step for each batch of them. The last weights are kept.

    Args:
        policy: trained in place.
        reward: labels the pairs, only ever evaluated.
        config: steps, prompts, labels.
        beta: weight of the KL term, above 0.
        monitor: gets the mean reward, KL and objective of the samples since the last report.
    """
    learner = _OnlinePairsLearner(policy, reward, config, beta)
    train_on_policy(learner, policy, config, beta, stage="online_dpo", monitor=monitor)


class _OnlinePairsLearner(SampledLearner):
    """Learns by the DPO loss of pairs that the policy generates and a reward labels."""

    def __init__(self, policy: PolicyModel, reward: Reward, config: OnlinePairsConfig, beta: float) -> None:
        super().__init__(policy, reward, config.prompts_per_step, samples_per_prompt=2)
        self._config, self._beta = config, beta

    def draw(self, n_steps: int, block: int) -> None:
        """Draw prompts and numbers for responses, and also a number for each label, (S, steps, B)."""
        super().draw(n_steps, block)
        shape = (n_steps, self._config.prompts_per_step)
        self._coins = self.policy.env.streams.uniform("rl.labels", shape, block)

    def batch(self, index: int) -> Batch:
        self._batch_coins = self._coins[:, index] if self._config.labels == "sampled" else None
        return super().batch(index)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean of `labeled_dpo_loss`, (S,)."""
        return labeled_dpo_loss(batch.rewards, batch.log_ratio, self._beta, self._batch_coins).mean(1)
