"""RL without sampling noise: the gradient of the objective over all responses, for small vocabularies and lengths."""

from __future__ import annotations

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.problems import Problem
from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.methods.on_policy import Batch, OnPolicyLearner, Reward
from alignsim.methods.rl.base import PolicyOptimizer
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel

#: The largest number of responses that are enumerated.
MOST_RESPONSES = 4096


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ExactGradient(PolicyOptimizer):
    """`conf/method/rl/exact.yaml`: a sum over all responses in place of samples. Only prompts are random."""

    steps: PositiveInt = yaml_default("method/rl/exact", "steps")
    prompts_per_step: PositiveInt = yaml_default("method/rl/exact", "prompts_per_step")
    learning_rate: PositiveFloat = yaml_default("method/rl/exact", "learning_rate")
    weight_decay: NonNegativeFloat = yaml_default("method/rl/exact", "weight_decay")
    warmup_steps: NonNegativeInt = yaml_default("method/rl/exact", "warmup_steps")

    def problems(self, env: Environment) -> list[Problem]:
        """A problem where there are too many responses to enumerate."""
        n_responses = env.vocab_size**env.output_dim
        if n_responses <= MOST_RESPONSES:
            return []
        count = n_responses if n_responses < 10**12 else "more than 10 ** 12"
        message = f"lists all env.vocab_size ** env.output_dim = {count} responses: at most {MOST_RESPONSES}"
        return [Problem("_target_", f"{type(self).__module__}.{type(self).__qualname__}", message)]

    def learner(self, policy: PolicyModel, reward: Reward, beta: float) -> OnPolicyLearner:
        """A learner of the policy on fresh prompts."""
        return _ExactLearner(policy, reward, self.prompts_per_step, beta)


class _ExactLearner(OnPolicyLearner):
    """Learns from expectations over all responses."""

    def __init__(self, policy: PolicyModel, reward: Reward, prompts_per_step: int, beta: float) -> None:
        self._policy, self.parameters, self.buffers = policy, policy.parameters, {}
        self._reward, self._prompts_per_step, self._beta = reward, prompts_per_step, beta

    def draw(self, n_steps: int, block: int) -> None:
        prompts = self._policy.env.prompts("rl", n_steps * self._prompts_per_step, block=block)
        self._prompts = prompts.split(self._prompts_per_step, dim=1)

    def batch(self, index: int) -> Batch:
        prompts = self._prompts[index]
        rewards, kl = expectations(self._policy, self._reward, prompts)
        nothing = prompts.new_empty(*prompts.shape[:2], 0, self._policy.env.output_dim, dtype=torch.long)
        return Batch(self._policy, prompts, nothing, rewards, kl)

    def loss(self, batch: Batch) -> torch.Tensor:
        loss = (self._beta * batch.log_ratio - batch.rewards).mean((1, 2))
        batch.rewards = batch.rewards.detach()
        return loss


def expectations(policy: PolicyModel, reward: Reward, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E[r(x, y)] under the policy and KL(pi || ref), with gradient, (S, B, D) -> (S, B, 1) both."""
    log_ratio = policy.differentiable_log_ratio_of_all(prompts)
    with torch.no_grad():
        responses = policy.env.all_responses().expand(*prompts.shape[:2], -1, -1)
        rewards = reward.rewards_of_all(prompts) if isinstance(reward, RewardModel) else reward(prompts, responses)
        reference = policy.env.reference_log_prob(prompts, responses)
    # Sums over all responses, weighted by their probabilities under the policy
    p = (reference + log_ratio).exp()
    return (p * rewards).sum(-1, keepdim=True), (p * log_ratio).sum(-1, keepdim=True)
