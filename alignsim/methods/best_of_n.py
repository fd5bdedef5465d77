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

    It has no KL term: `n`, not beta, says how far it goes from the reference. Where responses are not enumerable its
    `kl` is a bound from above, and its value one from below.

    Attributes:
        n: how many responses of the reference policy it picks from, at most 10,000.
    """

    reward_fit: PreferenceFitConfig = yaml_default("method/best_of_n", "reward_fit", PreferenceFitConfig)
    n: Annotated[int, Field(ge=1, le=10_000)] = yaml_default("method/best_of_n", "n")

    def policy_for(self, reward_model: RewardModel, task: TrainingInputs) -> BestOfNPolicy:
        """Let the reward model pick."""
        return BestOfNPolicy(task.env, reward_model, reward_model.of_all, self.n)


class BestOfNPolicy(Policy):
    """The response of the largest reward among n independent ones of the reference policy, the first of equal ones.

    Args:
        env: the environment.
        reward: of sampled responses; adding a function of the prompt changes nothing.
        reward_of_all: the same of every response, (S, B, D) -> (S, B, V ** T).
        n: how many responses.
    """

    def __init__(
        self, env: Environment, reward: Reward, reward_of_all: Callable[[torch.Tensor], torch.Tensor], n: int
    ) -> None:
        self.env, self.uniforms_per_response = env, n
        self._reward, self._reward_of_all = reward, reward_of_all

    def log_ratio_of_all(self, prompts: torch.Tensor) -> torch.Tensor:
        """As of `Policy`, exact."""
        reference = self.env.reference_log_prob(prompts, self.env.all_responses())
        return best_of_n_log_ratio(self._reward_of_all(prompts), reference, self.uniforms_per_response)

    def sampler(self) -> Callable[[torch.Tensor, torch.Tensor], Sampled]:
        """What picks responses; in place of each log-ratio it gives `best_of_n_kl_bound`, which is no smaller."""

        def write(prompts: torch.Tensor, uniforms: torch.Tensor) -> Sampled:
            with torch.no_grad():
                responses = self.env.sample_reference(uniforms, prompts)
                rewards = self._reward(prompts, responses)
                best = rewards.unflatten(-1, (-1, self.uniforms_per_response)).argmax(-1, keepdim=True)  # (S, B, K, 1)
                index = best[..., None].expand(*best.shape, self.env.output_dim)
                picked = responses.unflatten(2, (-1, self.uniforms_per_response)).gather(3, index).squeeze(3)
            return Sampled(picked, rewards.new_full(best.shape[:3], best_of_n_kl_bound(self.uniforms_per_response)))

        return write


def best_of_n_kl_bound(n: int) -> float:
    """Log n - (n - 1) / n, in nats: at least KL(best of n || reference) (Beirami et al. 2024, theorem 3.1)."""
    return math.log(n) - (n - 1) / n


def best_of_n_log_ratio(rewards: torch.Tensor, reference_log_prob: torch.Tensor, n: int) -> torch.Tensor:
    """Log of P(a response is the best of n) over its reference probability, exactly, (..., M).

    With F the reference probability of a reward up to that of y, and F- of one below it: (F^n - F-^n) / (F - F-),
    the same for all responses of equal reward, whose difference F - F- is their probability together.

    Args:
        rewards: of all M responses, (..., M).
        reference_log_prob: broadcastable to the same.
        n: how many independent responses of the reference policy there are to pick from.
    """
    ordered, order = rewards.sort(-1)
    p = reference_log_prob.double().exp().expand_as(rewards).gather(-1, order)
    rises = torch.nn.functional.pad(ordered.diff(dim=-1) != 0, (1, 0))
    level = rises.cumsum(-1)  # of each response from the worst on; equal rewards have one
    mass = torch.zeros_like(p).scatter_add(-1, level, p)  # of each level
    below_or_at = mass.cumsum(-1)
    below_or_at = below_or_at / below_or_at[..., -1:]
    at = below_or_at.clamp(min=1e-300)  # what the reference never writes stays finite
    below = torch.nn.functional.pad(below_or_at[..., :-1], (1, 0)) / at
    # (F^n - F-^n) / (F - F-) = F^(n-1) (1 - q^n) / (1 - q) with q = F- / F: F^n underflows for bad responses, and
    # F - F- cancels for unlikely ones
    of_level = torch.where(below > 1 - 1e-9, n, (1 - below**n) / (1 - below))
    ratio = (n - 1) * at.log() + of_level.log()
    of_responses = ratio.gather(-1, level)
    return torch.empty_like(p).scatter(-1, order, of_responses).to(rewards.dtype)
