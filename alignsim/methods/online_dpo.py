"""Online DPO: the DPO loss on pairs that the policy has just written, labelled by a reward, learned or true.

Guo et al. 2024. With a learned labeller it has RLHF's two stages, and DPO's loss on on-policy data in the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.methods.base import Method, Monitor, Task, Trained
from alignsim.methods.dpo import labelled_dpo_loss
from alignsim.methods.on_policy import PolicyFit, Reward, Stage, Step, fresh_responses, take_steps
from alignsim.methods.optimizer import tuned
from alignsim.methods.preference_fit import Supervised
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel

#: Whether a label is drawn, or both labels count, each as much as it is probable.
Labels = Literal["sampled", "expected"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OwnPairs(PolicyFit):
    """How a policy is fitted to pairs that it has just written.

    Attributes:
        prompts: fresh prompts in a step, one pair for each.
        labels: `sampled` from Bradley-Terry, or `expected`, the mean of the loss over them: the same on average, with
            less noise, and no longer what a labeller that answers which is better can tell.
    """

    prompts: PositiveInt = 64
    labels: Labels = "sampled"


@dataclass(frozen=True, config=STRICT)
class OnlineDPO(TwoStageMethod):
    """`conf/method/online_dpo.yaml`: labelled by a reward model that was fitted to the pairs.

    Attributes:
        on_policy: how the policy is fitted to its own pairs.
    """

    supervised: Supervised = tuned(Supervised, steps=3000, learning_rate=1e-3, weight_decay=0.01)
    on_policy: OwnPairs = tuned(OwnPairs, steps=2000, learning_rate=3e-3, weight_decay=0.01)

    def policy_for(self, reward_model: RewardModel, task: Task) -> PolicyModel:
        """Fit a fresh policy to pairs of its own that the reward model labels."""
        policy = task.model.new_policy(task.env)
        fit_to_own_pairs(policy, reward_model, self.on_policy, beta=task.beta, monitor=task.monitor)
        return policy


@dataclass(frozen=True, config=STRICT)
class OracleOnlineDPO(Method):
    """`conf/method/online_dpo_oracle.yaml`: labelled by the true reward, with nothing learned from the given pairs.

    Labels are Bradley-Terry's without noise, whatever the environment says of the given pairs' labels.

    Attributes:
        on_policy: how the policy is fitted to its own pairs.
    """

    on_policy: OwnPairs = tuned(OwnPairs, steps=2531, learning_rate=3.28e-3, weight_decay=1.79e-3)

    def train(self, task: Task) -> Trained:
        """Fit a policy to pairs of its own that the true reward labels."""
        policy = task.model.new_policy(task.env)
        fit_to_own_pairs(policy, task.env.reward, self.on_policy, beta=task.beta, monitor=task.monitor)
        return Trained(policy, None, scorer=policy.log_ratio)


def fit_to_own_pairs(policy: PolicyModel, reward: Reward, settings: OwnPairs, *, beta: float, monitor: Monitor) -> None:
    """Descend the DPO loss on fresh pairs of the policy, one step for each batch of them. The last weights are kept.

    Args:
        policy: trained in place.
        reward: labels the pairs, only ever evaluated.
        settings: steps, prompts, labels.
        beta: weight of the KL term, above 0.
        monitor: hears the mean reward, KL and objective of the samples since the last report.
    """
    write, env = fresh_responses(policy, reward, settings.prompts, samples=2), policy.env

    def steps(n_steps: int, block: int) -> Iterator[Step]:
        coins = env.streams.uniform("rl.labels", (n_steps, settings.prompts), block)
        for i, written in enumerate(write(n_steps, block)):
            drawn = coins[:, i] if settings.labels == "sampled" else None
            losses = labelled_dpo_loss(written.rewards, written.log_ratio, beta, drawn).mean(1)
            yield Step(written.rewards, written.log_ratio, iter([losses]))

    take_steps(policy, Stage(policy.parameters, steps), settings, beta, phase="online_dpo", monitor=monitor)
