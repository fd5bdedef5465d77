"""RL without sampling noise: the gradient of the objective over all responses, for small vocabularies and lengths."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.problems import Problem
from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.methods.on_policy import Reward, Stage, Step
from alignsim.methods.rl.base import PolicyOptimiser
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel

#: Responses that are listed at most.
MOST_RESPONSES = 4096


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ExactGradient(PolicyOptimiser):
    """`conf/method/rl/exact.yaml`: only the prompts of a step are random."""

    steps: PositiveInt = 1908
    learning_rate: PositiveFloat = 1.22e-3
    weight_decay: NonNegativeFloat = 0.167

    def problems(self, env: Environment) -> list[Problem]:
        """There may be too many responses to list."""
        n_responses = env.vocab_size**env.output_dim
        if n_responses <= MOST_RESPONSES:
            return []
        shown = n_responses if n_responses < 10**12 else "more than 10 ** 12"
        told = f"lists all env.vocab_size ** env.output_dim = {shown} responses: at most {MOST_RESPONSES}"
        return [Problem("_target_", f"{type(self).__module__}.{type(self).__qualname__}", told)]

    def stage(self, policy: PolicyModel, reward: Reward, beta: float) -> Stage:
        """The policy, trained on fresh prompts."""
        env = policy.env

        def steps(n_steps: int, block: int) -> Iterator[Step]:
            for x in env.prompts("rl", n_steps * self.prompts, block=block).split(self.prompts, dim=1):
                rewards, divergence = expectations(policy, reward, x)
                yield Step(rewards.detach(), divergence.detach(), iter([(beta * divergence - rewards).mean((1, 2))]))

        return Stage(policy.parameters, steps)


def expectations(policy: PolicyModel, reward: Reward, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E[r(x, y)] under the policy and KL(pi || ref), with gradient, (S, B, D) -> (S, B, 1) both."""
    log_ratio = policy.differentiable_log_ratio_of_all(prompts)
    with torch.no_grad():
        every = policy.env.all_responses().expand(*prompts.shape[:2], -1, -1)
        rewards = reward.of_all(prompts) if isinstance(reward, RewardModel) else reward(prompts, every)
        reference = policy.env.reference_log_prob(prompts, every)
    p = (reference + log_ratio).exp()
    return (p * rewards).sum(-1, keepdim=True), (p * log_ratio).sum(-1, keepdim=True)
