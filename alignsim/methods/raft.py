"""RAFT, reward-ranked fine-tuning (Dong et al. 2023): again and again the policy imitates its best responses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.methods.base import Monitor, Task
from alignsim.methods.on_policy import (
    STEPS_IN_BLOCK,
    PolicyFit,
    Reward,
    Stage,
    Step,
    fresh_responses,
    take_steps,
)
from alignsim.methods.optimizer import tuned
from alignsim.methods.preference_fit import Supervised
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Imitation(PolicyFit):
    """How a policy is fitted to the best of its own responses.

    Attributes:
        samples: K, responses to each prompt, at least 2, of which the best is imitated.
        iteration: steps on responses of one and the same policy, the one that the iteration began with.
    """

    steps: PositiveInt = 2996
    learning_rate: PositiveFloat = 1.61e-3
    weight_decay: NonNegativeFloat = 0.0623
    samples: Annotated[int, Field(ge=2)] = 4
    iteration: PositiveInt = 990


@dataclass(frozen=True, config=STRICT)
class RAFT(TwoStageMethod):
    """`conf/method/raft.yaml`.

    Its objective has no KL term, and beta does not enter: were it trained for ever, it would write what the reward
    model likes best and nothing else. After j iterations, each fitted perfectly, it is the best of K^j responses of the
    reference, so that the number of iterations and K decide how far it goes.

    Attributes:
        imitation: how the policy is fitted to its own best responses.
    """

    supervised: Supervised = tuned(Supervised, steps=2378, learning_rate=1.3e-3, weight_decay=0.308)
    imitation: Imitation = field(default_factory=Imitation)

    def policy_for(self, reward_model: RewardModel, task: Task) -> PolicyModel:
        """Fit a fresh policy to the best of its own responses."""
        policy = task.model.new_policy(task.env)
        imitate_best(policy, reward_model, self.imitation, beta=task.beta, monitor=task.monitor)
        return policy


def imitate_best(policy: PolicyModel, reward: Reward, settings: Imitation, *, beta: float, monitor: Monitor) -> None:
    """Descend -log pi(best of K responses), which are the policy's of when the iteration began. The last weights stay.

    Dong et al. 2023, algorithm 1, with fresh prompts and responses in every step of an iteration.

    Args:
        policy: trained in place.
        reward: of responses, only ever evaluated; the first of equally good ones is the best.
        settings: steps, iterations, samples.
        beta: weight of the KL term in the objective that the monitor hears of; nothing else depends on it.
        monitor: hears the mean reward, KL and objective of the samples since the last report.
    """
    writing = copy.copy(policy)  # the policy when the iteration began
    writing.parameters = {name: p.detach().clone() for name, p in policy.parameters.items()}
    write = fresh_responses(writing, reward, settings.prompts, settings.samples)

    def steps(n_steps: int, block: int) -> Iterator[Step]:
        for done, written in enumerate(write(n_steps, block), block * STEPS_IN_BLOCK + 1):
            best = written.rewards.argmax(-1)[..., None, None].expand(-1, -1, 1, written.responses.shape[-1])
            log_ratio = policy.log_ratio(written.prompts, written.responses.gather(2, best))  # less a constant: log pi
            yield Step(written.rewards, written.log_ratio, iter([-log_ratio.mean((1, 2))]))
            if done % settings.iteration == 0:
                for name, p in writing.parameters.items():
                    p.copy_(policy.parameters[name].detach())

    take_steps(
        *(policy, Stage(policy.parameters, steps, beside=writing.parameters), settings, beta),
        phase="raft",
        monitor=monitor,
    )
