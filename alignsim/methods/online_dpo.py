"""Online DPO: the DPO loss on pairs that the policy has just written, labelled by a reward, learned or true.

Guo et al. 2024. With a learned labeller it has RLHF's two stages, and DPO's loss on on-policy data in the second.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.lazy import torch
from alignsim.methods.base import Method, Task, Trained, fitted
from alignsim.methods.dpo import dpo_loss
from alignsim.methods.on_policy import OnPolicyFit, train_on_policy
from alignsim.methods.policy_optimiser import Reward
from alignsim.methods.rlhf import train_reward_model
from alignsim.methods.supervised import Supervised
from alignsim.models.policy import PolicyModel

#: Whether a label is drawn, or both labels count, each as much as it is probable.
Labels = Literal["sampled", "expected"]


@dataclass(frozen=True, config=STRICT)
class OnlineDPO(Method):
    """`conf/method/online_dpo.yaml`: labelled by a reward model that was fitted to the pairs.

    Attributes:
        supervised: how the reward model is fitted to the pairs.
        on_policy: how the policy is fitted to its own pairs, one for each prompt.
        labels: `sampled` from Bradley-Terry, or `expected`, the mean of the loss over them: the same on average, with
            less noise, and no longer what a labeller that answers which is better can tell.
    """

    supervised: Supervised = field(default_factory=Supervised)
    on_policy: OnPolicyFit = field(default_factory=OnPolicyFit)
    labels: Labels = "sampled"

    def train(self, task: Task) -> Trained:
        """Fit a reward model to the pairs, then a policy to pairs of its own that the reward model labels."""
        reward_model = train_reward_model(
            task.env, task.data, beta=task.beta, model=task.model, settings=self.supervised, monitor=task.monitor
        )
        policy = _train_policy(task, reward_model, self.on_policy, self.labels)
        return Trained(policy, fitted(reward_model), scorer=reward_model, reward_model=reward_model)


@dataclass(frozen=True, config=STRICT)
class OracleOnlineDPO(Method):
    """`conf/method/online_dpo_oracle.yaml`: labelled by the true reward, with nothing learned from the given pairs.

    Labels are Bradley-Terry's without noise, whatever the environment says of the given pairs' labels. Fields as of
    `OnlineDPO`.
    """

    on_policy: OnPolicyFit = field(default_factory=OnPolicyFit)
    labels: Labels = "sampled"

    def train(self, task: Task) -> Trained:
        """Fit a policy to pairs of its own that the true reward labels."""
        policy = _train_policy(task, task.env.reward, self.on_policy, self.labels)
        return Trained(policy, None, scorer=policy.log_ratio)


def online_dpo_loss(
    rewards: torch.Tensor, log_ratio: torch.Tensor, beta: float, coins: torch.Tensor | None = None
) -> torch.Tensor:
    """The DPO loss of pairs, labelled by Bradley & Terry (1952), in nats, (S, B).

    Where the policy is optimal for the rewards, its expectation over labels is stationary for every pair, whoever
    wrote it: beta times the difference of log-ratios is then that of the rewards.

    Args:
        rewards: of both responses, (S, B, 2); adding a function of the prompt changes nothing.
        log_ratio: log pi - log ref of both, with gradient, (S, B, 2).
        beta: weight of the KL term, above 0.
        coins: numbers in [0, 1), (S, B): the first response is chosen where its probability is above; None for the
            expectation over labels.
    """
    first, second = log_ratio.unbind(-1)
    p_first = torch.sigmoid(rewards[..., 0] - rewards[..., 1])
    if coins is not None:
        p_first = torch.where(p_first.isnan(), p_first, (coins < p_first).to(p_first.dtype))
    return p_first * dpo_loss(first, second, beta) + (1 - p_first) * dpo_loss(second, first, beta)


def _train_policy(task: Task, reward: Reward, settings: OnPolicyFit, labels: Labels) -> PolicyModel:
    """Fit a fresh policy to its own pairs."""
    policy, beta = task.model.new_policy(task.env), task.beta

    def loss(rewards: torch.Tensor, log_ratio: torch.Tensor, coins: torch.Tensor) -> torch.Tensor:
        return online_dpo_loss(rewards, log_ratio, beta, coins if labels == "sampled" else None)

    train_on_policy(policy, reward, loss, beta, settings, samples=2, phase="online_dpo", monitor=task.monitor)
    return policy
