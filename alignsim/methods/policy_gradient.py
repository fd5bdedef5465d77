"""The one loop that improves a policy against a reward: on-policy policy gradient with the KL inside the reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.lazy import torch
from alignsim.methods.base import Monitor
from alignsim.methods.losses import kl_penalised_reward, leave_one_out_advantage
from alignsim.methods.optimiser import Optimisation, Optimiser
from alignsim.models.policy import PolicyModel

#: Reward of responses: (S, B, D), (S, B, K, T) -> (S, B, K).
Reward = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]

#: Steps whose random numbers are drawn together, and between two reports to the monitor; a stage resumes at a block.
STEPS_IN_BLOCK = 50


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PolicyGradient(Optimisation):
    """How a policy is improved against a reward.

    Attributes:
        prompts: fresh prompts in a step.
        samples: responses that the policy writes to each of them, at least 2.
    """

    steps: PositiveInt = 2000
    learning_rate: PositiveFloat = 3e-3
    prompts: PositiveInt = 32
    samples: Annotated[int, Field(ge=2)] = 4


def optimise_policy(
    policy: PolicyModel,
    reward: Reward,
    beta: float,
    settings: PolicyGradient,
    *,
    phase: str,
    monitor: Monitor,
) -> None:
    """Ascend E[r(x, y)] - beta KL(pi || ref) by REINFORCE with a leave-one-out baseline (RLOO).

    The reward is only ever evaluated, nothing is back-propagated through it. The last weights are kept.

    Args:
        policy: trained in place.
        reward: of sampled responses; a learned or the true one.
        beta: weight of the KL term, above 0.
        settings: steps, prompts and samples, learning rate.
        phase: the stage's name for the monitor.
        monitor: hears the mean reward, KL and objective of the samples since the last report.
    """
    env, samples = policy.env, (policy.env.output_dim, settings.samples, settings.prompts)
    optimiser, done = Optimiser(policy.parameters, settings), 0
    if (saved := monitor.resume(phase)) is not None:
        optimiser.restore(saved["optimiser"])
        done = saved["step"]
    monitor.start(phase, settings.steps, done)
    if done == 0:
        monitor.record(phase, 0, {}, policy)
    write = policy.writer()
    for start in range(done, settings.steps, STEPS_IN_BLOCK):
        n_steps = min(STEPS_IN_BLOCK, settings.steps - start)
        prompts = env.prompts("rl", n_steps * settings.prompts, block=start // STEPS_IN_BLOCK)
        # drawn in the order in which the network uses them, (S, steps, T, K, B)
        uniforms = env.streams.uniform("rl.samples", (n_steps, *samples), block=start // STEPS_IN_BLOCK)
        seen: list[tuple[torch.Tensor, ...]] = []  # of each step the losses (S,), rewards and log ratios (S, B, K)
        for i, x in enumerate(prompts.split(settings.prompts, dim=1)):
            responses, log_ratio = write(x, uniforms[:, i].permute(0, 3, 2, 1))
            with torch.no_grad():
                rewards = reward(x, responses)
            losses = policy_gradient_loss(rewards, log_ratio, beta)
            optimiser.step(start + i, losses)
            seen.append((losses.detach(), rewards, log_ratio.detach()))
        all_losses, all_rewards, log_ratios = (torch.stack(each) for each in zip(*seen, strict=True))
        optimiser.note_divergence(start + n_steps, all_losses)
        mean_reward, kl = all_rewards.mean((0, 2, 3)), log_ratios.mean((0, 2, 3))
        measures = {"learned_reward": mean_reward, "kl": kl, "objective": mean_reward - beta * kl}
        monitor.record(phase, start + n_steps, measures, policy)
        monitor.keep(phase, {"step": start + n_steps, "optimiser": optimiser.state()})
    optimiser.close()
    monitor.finish(phase, settings.steps, optimiser.diverged_at)


def policy_gradient_loss(rewards: torch.Tensor, log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """A loss whose gradient is an unbiased estimate of that of -(E[r] - beta KL(pi || ref)), (S,).

    Args:
        rewards: of K >= 2 independent samples from the policy for each prompt, (S, B, K).
        log_ratio: log pi - log ref of the same samples, with gradient, (S, B, K).
        beta: weight of the KL term.
    """
    penalised = kl_penalised_reward(rewards, log_ratio.detach(), beta)
    return -(leave_one_out_advantage(penalised) * log_ratio).mean((1, 2))
