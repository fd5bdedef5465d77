"""Learning from responses that the policy has just written, by a loss on their rewards and log-ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.lazy import torch
from alignsim.methods.base import Monitor
from alignsim.methods.optimiser import Optimisation
from alignsim.methods.policy_optimiser import Reward, Stage, Step, fresh_responses, take_steps
from alignsim.models.policy import PolicyModel

#: From rewards and log-ratios (with gradient) of responses, (S, B, K) each, and a number in [0, 1) for each prompt,
#: (S, B), to the loss of each prompt, (S, B). Nothing is back-propagated through what the policy chose to write.
OnPolicyLoss = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OnPolicyFit(Optimisation):
    """How a policy learns from its own responses.

    Attributes:
        prompts: fresh prompts in a step.
    """

    steps: PositiveInt = 2000
    learning_rate: PositiveFloat = 3e-3
    prompts: PositiveInt = 64


def train_on_policy(
    policy: PolicyModel,
    reward: Reward,
    loss: OnPolicyLoss,
    beta: float,
    settings: OnPolicyFit,
    *,
    samples: int,
    phase: str,
    monitor: Monitor,
) -> None:
    """Descend a loss on fresh responses of the policy, one step for each batch of them. The last weights are kept.

    Args:
        policy: trained in place.
        reward: of sampled responses; a learned or the true one, only ever evaluated.
        loss: from their rewards and log-ratios.
        beta: weight of the KL term in the objective that the monitor hears of.
        settings: steps, prompts, learning rate.
        samples: K, how many responses the policy writes to each prompt.
        phase: the stage's name for the monitor.
        monitor: hears the mean reward, KL and objective of the samples since the last report.
    """
    write = fresh_responses(policy, reward, settings.prompts, samples)

    def steps(n_steps: int, block: int) -> Iterator[Step]:
        coins = policy.env.streams.uniform("rl.labels", (n_steps, settings.prompts), block)
        for i, written in enumerate(write(n_steps, block)):
            losses = loss(written.rewards, written.log_ratio, coins[:, i]).mean(1)
            yield Step(written.rewards, written.log_ratio, iter([losses]))

    take_steps(policy, Stage(policy.parameters, steps), settings, beta, phase=phase, monitor=monitor)
