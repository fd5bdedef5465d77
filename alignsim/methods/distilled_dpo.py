"""DPO on the given pairs, labeled anew by a reward model that was fitted to them: two stages without RL.

No response and no prompt is new. All that it has beyond DPO is the reward model's opinion of the very pairs that both
learn from, and so it shows what the class of the reward model is worth by itself.
"""

from __future__ import annotations

import dataclasses

from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.methods.base import TrainingInputs
from alignsim.methods.losses import labeled_dpo_loss
from alignsim.methods.on_policy import Reward
from alignsim.methods.preference_fit import PAIRS_AT_ONCE, PreferenceFitConfig, fit_to_preferences
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT)
class DistilledDPO(TwoStageMethod):
    """`conf/method/distilled_dpo.yaml`: the reward model is distilled into a policy (Fisch et al. 2024).

    Both labels of a pair count, weighted by their probabilities under the reward model. Fisch et al. fit differences of
    rewards by least squares; the optimum of both losses is the policy that is optimal for the reward model.

    Attributes:
        policy_fit: how the policy is fitted to the reward model's labels; those of validation pairs decide when to
            stop.
    """

    policy_fit: PreferenceFitConfig = yaml_default("method/distilled_dpo", "policy_fit", PreferenceFitConfig)

    def policy_for(self, reward_model: RewardModel, inputs: TrainingInputs) -> PolicyModel:
        """Fit a fresh policy to the given pairs, labeled by the reward model."""
        policy = inputs.model.new_policy(inputs.env)
        train, validation = (with_rewards(pairs, reward_model) for pairs in (inputs.data.train, inputs.data.validation))

        def loss(policy: PolicyModel, pairs: Preferences) -> torch.Tensor:
            assert pairs.rewards is not None
            return labeled_dpo_loss(pairs.rewards, policy.log_ratio(pairs.prompts, pairs.responses), inputs.beta)

        data = PreferenceData(train, validation)
        fit_to_preferences(policy, loss, data, self.policy_fit, stage="distillation", monitor=inputs.monitor)
        return policy


def with_rewards(pairs: Preferences, reward: Reward) -> Preferences:
    """The same pairs with the rewards of their responses, (S, N, 2), without gradient.

    They are computed for as many pairs at once as a batch has by default. Computing them batch by batch would give the
    same bits.
    """
    with torch.no_grad():
        parts = [reward(part.prompts, part.responses) for part in pairs.split(PAIRS_AT_ONCE)]
    return dataclasses.replace(pairs, rewards=torch.cat(parts, 1))
