"""Best-of-n sampling: a reward model picks among n responses of the reference policy; no policy is trained.

Stiennon et al. 2020; Nakano et al. 2021. Its distribution is exact where responses are enumerable, and its
KL(policy || reference) is bounded elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.methods.base import TrainingInputs
from alignsim.methods.on_policy import Reward
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import Policy, Sampled
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT)
class BestOfN(TwoStageMethod):
    """`conf/method/best_of_n.yaml`.

    It has no KL term: `n`, not beta, determines how far it goes from the reference. Where responses are not enumerable
    its `kl` is an upper bound, and its value a lower bound.

    Attributes:
        n: the number of responses of the reference policy to pick from, at most 10,000.
    """

    reward_fit: PreferenceFitConfig = yaml_default("method/best_of_n", "reward_fit", PreferenceFitConfig)
    n: Annotated[int, Field(ge=1, le=10_000)] = yaml_default("method/best_of_n", "n")

    def policy_for(self, reward_model: RewardModel, inputs: TrainingInputs) -> BestOfNPolicy:
        """The policy that picks by the reward model."""
        return BestOfNPolicy(inputs.env, reward_model, reward_model.rewards_of_all, self.n)


class BestOfNPolicy(Policy):
    """The policy that returns the best of n independent responses of the reference, the first where several are best.

    Args:
        env: the environment.
        reward: of sampled responses; adding a function of the prompt changes nothing.
        reward_of_all: the reward of every response, (S, B, D) -> (S, B, V ** T).
        n: the number of responses to pick from.
    """

    def __init__(
        self, env: Environment, reward: Reward, reward_of_all: Callable[[torch.Tensor], torch.Tensor], n: int
    ) -> None:
        self.env, self.uniforms_per_response = env, n
        self._reward, self._reward_of_all = reward, reward_of_all

    def log_ratio_of_all(self, prompts: torch.Tensor) -> torch.Tensor:
        """Log pi / ref of every response, exact: (S, B, D) -> (S, B, V ** T)."""
        reference = self.env.reference_log_prob(prompts, self.env.all_responses())
        return best_of_n_log_ratio(self._reward_of_all(prompts), reference, self.uniforms_per_response)

    def sampler(self) -> Callable[[torch.Tensor, torch.Tensor], Sampled]:
        """A sampler whose log-ratios are all `best_of_n_kl_bound`, which is at least their mean."""

        def sample(prompts: torch.Tensor, uniforms: torch.Tensor) -> Sampled:
            with torch.no_grad():
                responses = self.env.sample_reference(uniforms, prompts)
                rewards = self._reward(prompts, responses)
                best = rewards.unflatten(-1, (-1, self.uniforms_per_response)).argmax(-1, keepdim=True)  # (S, B, K, 1)
                index = best[..., None].expand(*best.shape, self.env.output_dim)
                chosen = responses.unflatten(2, (-1, self.uniforms_per_response)).gather(3, index).squeeze(3)
            return Sampled(chosen, rewards.new_full(best.shape[:3], best_of_n_kl_bound(self.uniforms_per_response)))

        return sample


def best_of_n_kl_bound(n: int) -> float:
    """Log n - (n - 1) / n, in nats: at least KL(best of n || reference) (Beirami et al. 2024, theorem 3.1)."""
    return math.log(n) - (n - 1) / n


def best_of_n_log_ratio(rewards: torch.Tensor, reference_log_prob: torch.Tensor, n: int) -> torch.Tensor:
    """Log of P(a response is the best of n) over its reference probability, exactly, (..., M).

    Let F be the reference probability of a reward at or below that of y, and F- that of a reward below it. The ratio is
    then (F^n - F-^n) / (F - F-). All responses of equal reward share it; F - F- is their probability together.

    Args:
        rewards: rewards of all M responses, (..., M).
        reference_log_prob: log-probabilities under the reference, broadcastable to (..., M).
        n: the number of independent responses of the reference policy to pick from.
    """
    # Responses from the worst to the best
    ordered, order = rewards.sort(-1)
    p = reference_log_prob.double().exp().expand_as(rewards).gather(-1, order)
    # F and q = F- / F of each level of reward
    rises = torch.nn.functional.pad(ordered.diff(dim=-1) != 0, (1, 0))
    level = rises.cumsum(-1)  # the rank of each reward from the worst on; equal rewards share one
    mass = torch.zeros_like(p).scatter_add(-1, level, p)  # the probability of each level
    below_or_at = mass.cumsum(-1)
    below_or_at = below_or_at / below_or_at[..., -1:]
    at = below_or_at.clamp(min=1e-300)  # responses of probability 0 stay finite
    below = torch.nn.functional.pad(below_or_at[..., :-1], (1, 0)) / at
    # The ratio (F^n - F-^n) / (F - F-) = F^(n-1) (1 - q^n) / (1 - q): F^n underflows for bad responses, and F - F-
    # cancels for unlikely ones
    level_log_ratio = torch.where(below > 1 - 1e-9, n, (1 - below**n) / (1 - below))
    ratio = (n - 1) * at.log() + level_log_ratio.log()
    # Back to the order of the responses
    response_log_ratio = ratio.gather(-1, level)
    return torch.empty_like(p).scatter(-1, order, response_log_ratio).to(rewards.dtype)
