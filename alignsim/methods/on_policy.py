"""The one loop of methods that learn from what a policy writes while it trains: RL, RAFT, online DPO.

What a step learns from is the method's; rewards are only ever evaluated, nothing is back-propagated through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from typing import NamedTuple

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.methods.base import Monitor
from alignsim.methods.optimizer import Optimisation, Optimiser
from alignsim.models.network import Parameters
from alignsim.models.policy import PolicyModel

#: Reward of responses: (S, B, D), (S, B, K, T) -> (S, B, K).
Reward = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]

#: Steps whose random numbers are drawn together, and between two reports to the monitor; a stage resumes at a block.
STEPS_IN_BLOCK = 50


class Step(NamedTuple):
    """What a step learns from.

    Attributes:
        rewards: of samples from the policy, or their expectation for each prompt, (S, B, K) or (S, B, 1).
        log_ratio: log pi - log ref of the same, with or without gradient.
        losses: one for each gradient step, (S,), made when the gradient step before it was taken.
    """

    rewards: torch.Tensor
    log_ratio: torch.Tensor
    losses: Iterator[torch.Tensor]


class Stage(NamedTuple):
    """An optimiser at work on a policy.

    Attributes:
        parameters: all that is trained.
        steps: from how many steps a block has and the number of the block to its steps, one by one.
        beside: tensors that the steps change in place, and that are not trained.
    """

    parameters: Parameters
    steps: Callable[[int, int], Iterator[Step]]
    beside: Parameters | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PolicyFit(Optimisation):
    """How a policy learns from responses that are written while it trains.

    Attributes:
        steps: each on fresh prompts.
        prompts: fresh prompts in a step.
    """

    steps: PositiveInt = 2000
    learning_rate: PositiveFloat = 3e-3
    prompts: PositiveInt = 32


def take_steps(
    policy: PolicyModel, stage: Stage, settings: Optimisation, beta: float, *, phase: str, monitor: Monitor
) -> None:
    """Take the steps of a stage, block by block; the last weights are kept.

    Args:
        policy: trained in place.
        stage: what is trained, and on what.
        settings: how many steps, and how large.
        beta: weight of the KL term in the objective that the monitor hears of, above 0.
        phase: the stage's name for the monitor.
        monitor: hears the mean reward, KL and objective of the samples since the last report.
    """
    optimiser, beside, done = Optimiser(stage.parameters, settings), stage.beside or {}, 0
    if (saved := monitor.resume(phase)) is not None:
        optimiser.restore(saved["optimiser"])
        for name, tensor in beside.items():
            tensor.copy_(saved["beside"][name])
        done = saved["step"]
    monitor.start(phase, settings.steps, done)
    if done == 0:
        monitor.record(phase, 0, {}, policy)
    for start in range(done, settings.steps, STEPS_IN_BLOCK):
        n_steps = min(STEPS_IN_BLOCK, settings.steps - start)
        seen: list[tuple[torch.Tensor, ...]] = []  # of each step the losses (S,), rewards and log ratios (S, B, K)
        for i, (rewards, log_ratio, losses) in enumerate(stage.steps(n_steps, start // STEPS_IN_BLOCK)):
            taken = []
            for loss in losses:
                optimiser.step(start + i, loss)
                taken.append(loss.detach())
            # their sum is not finite as soon as one of them is not
            seen.append((reduce(add, taken), rewards, log_ratio.detach()))
        all_losses, all_rewards, log_ratios = (torch.stack(each) for each in zip(*seen, strict=True))
        optimiser.note_divergence(start + n_steps, all_losses)
        mean_reward, kl = all_rewards.mean((0, 2, 3)), log_ratios.mean((0, 2, 3))
        measures = {"learned_reward": mean_reward, "kl": kl, "objective": mean_reward - beta * kl}
        monitor.record(phase, start + n_steps, measures, policy)
        monitor.keep(phase, {"step": start + n_steps, "optimiser": optimiser.state(), "beside": beside})
    optimiser.close()
    monitor.finish(phase, settings.steps, optimiser.diverged_at)


class Responses(NamedTuple):
    """What a policy has just written.

    Attributes:
        prompts: (S, B, D).
        responses: (S, B, K, T).
        rewards: of each, (S, B, K).
        log_ratio: log pi - log ref of each, with gradient, (S, B, K).
    """

    prompts: torch.Tensor
    responses: torch.Tensor
    rewards: torch.Tensor
    log_ratio: torch.Tensor


def fresh_responses(
    policy: PolicyModel, reward: Reward, prompts: int, samples: int
) -> Callable[[int, int], Iterator[Responses]]:
    """From how many steps a block has and the number of the block to what the policy writes in each step.

    Args:
        policy: as it is when a step is asked for.
        reward: of its responses.
        prompts: B, fresh ones in a step.
        samples: K, responses to each.
    """
    write, env = policy.writer(), policy.env

    def steps(n_steps: int, block: int) -> Iterator[Responses]:
        of_block = env.prompts("rl", n_steps * prompts, block=block)
        # drawn in the order in which the network uses them, (S, steps, T, K, B)
        uniforms = env.streams.uniform("rl.samples", (n_steps, env.output_dim, samples, prompts), block=block)
        for i, x in enumerate(of_block.split(prompts, dim=1)):
            responses, log_ratio = write(x, uniforms[:, i].permute(0, 3, 2, 1))
            with torch.no_grad():
                rewards = reward(x, responses)
            yield Responses(x, responses, rewards, log_ratio)

    return steps
