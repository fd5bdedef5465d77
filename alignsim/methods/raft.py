"""RAFT, reward-ranked fine-tuning: again and again the policy imitates the best of its own responses.

Dong et al. 2023, with one maximum-likelihood step for each batch of fresh responses, so that it stays on policy.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.lazy import torch
from alignsim.methods.base import Method, Task, Trained, fitted
from alignsim.methods.on_policy import OnPolicyFit, train_on_policy
from alignsim.methods.rlhf import train_reward_model
from alignsim.methods.supervised import Supervised


@dataclass(frozen=True, config=STRICT)
class RAFT(Method):
    """`conf/method/raft.yaml`.

    Its objective has no KL term, and beta does not enter: were it trained for ever, it would write what the reward
    model likes best and nothing else. How far it goes is decided by `samples` and by how long it trains.

    Attributes:
        supervised: how the reward model is fitted to the pairs.
        fine_tuning: how the policy is fitted to its own best responses, one for each prompt.
        samples: K, how many responses the policy writes to each prompt, at least 2.
    """

    supervised: Supervised = field(default_factory=Supervised)
    fine_tuning: OnPolicyFit = field(default_factory=lambda: OnPolicyFit(prompts=8))
    samples: Annotated[int, Field(ge=2)] = 16

    def train(self, task: Task) -> Trained:
        """Fit a reward model to the pairs, then a policy to the best of its own responses."""
        reward_model = train_reward_model(
            task.env, task.data, beta=task.beta, model=task.model, settings=self.supervised, monitor=task.monitor
        )
        policy = task.model.new_policy(task.env)
        train_on_policy(
            *(policy, reward_model, lambda rewards, log_ratio, _: raft_loss(rewards, log_ratio)),
            *(task.beta, self.fine_tuning),
            samples=self.samples,
            phase="raft",
            monitor=task.monitor,
        )
        return Trained(policy, fitted(reward_model), scorer=reward_model, reward_model=reward_model)


def raft_loss(rewards: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
    """-log pi/ref of the response of the largest reward of each prompt, the first of equal ones: (S, B, K) -> (S, B).

    Its gradient is that of -log pi, maximum likelihood (Dong et al. 2023, algorithm 1).
    """
    return -log_ratio.gather(-1, rewards.argmax(-1, keepdim=True)).squeeze(-1)
