"""DPO on the given pairs, labeled anew by a reward model that was fitted to them: two stages without RL.

Nothing is written, no prompt is new: beside DPO it has only the reward model's opinion of the very pairs that both
learn from, and so tells what the reward model's class is worth by itself.
"""

from __future__ import annotations

from functools import lru_cache

from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import Preferences
from alignsim.methods.base import TrainingInputs
from alignsim.methods.dpo import labeled_dpo_loss
from alignsim.methods.optimizer import tuned
from alignsim.methods.preference_fit import PreferenceFitConfig, fit_to_preferences
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT)
class DistilledDPO(TwoStageMethod):
    """`conf/method/distilled_dpo.yaml`: the reward model is distilled into a policy (Fisch et al. 2024).

    Both labels of a pair count, each as much as the reward model finds it probable. Fisch et al. fit differences of
    rewards by squares; the policy that is optimal for the reward model is the optimum of both losses.

    Attributes:
        policy_fit: how the policy is fitted to the reward model's labels; those of validation pairs say when to stop.
    """

    policy_fit: PreferenceFitConfig = tuned(PreferenceFitConfig, steps=2379, learning_rate=5.25e-3, weight_decay=0.436)

    def policy_for(self, reward_model: RewardModel, task: TrainingInputs) -> PolicyModel:
        """Fit a fresh policy to the given pairs, labeled by the reward model."""
        policy = task.model.new_policy(task.env)

        @lru_cache(maxsize=1)
        def judge_of(seeds: tuple[int, ...]) -> RewardModel:
            return reward_model.select_seeds(torch.tensor([task.env.seeds.index(seed) for seed in seeds]))

        def loss(policy: PolicyModel, pairs: Preferences) -> torch.Tensor:
            with torch.no_grad():
                rewards = judge_of(policy.env.seeds)(pairs.prompts, pairs.responses)
            return labeled_dpo_loss(rewards, policy.log_ratio(pairs.prompts, pairs.responses), task.beta)

        fit_to_preferences(policy, loss, task.data, self.policy_fit, stage="distillation", monitor=task.monitor)
        return policy
