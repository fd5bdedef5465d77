"""The value of a policy, V(pi) = E[r*] - beta KL(pi || ref): exact by enumeration, or sampled with standard error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.models.policy import Policy
from alignsim.models.reward import RewardModel

#: The number of responses of a seed that are enumerated at once, and the smallest number of prompts. This bounds memory
#: and stays in the cache; it does not depend on the number of seeds, so that the sums of a seed do not either.
_RESPONSES_AT_ONCE, _PROMPTS_AT_ONCE = 2**13, 8

#: The number of prompts whose responses are sampled together, and the largest number of responses' worth of random
#: numbers for each of them. They are fixed, so that the noise of a seed does not depend on the other seeds.
_PROMPTS_IN_BLOCK, _UNIFORMS_AT_ONCE = 8, 2**12


@dataclass(frozen=True)
class Value:
    """Means over prompts for each seed, (S,) each.

    Attributes:
        reward: E[r*].
        kl: KL(pi || ref), in nats.
        value: E[r*] - beta KL(pi || ref).
        standard_error: of `value` from sampling responses (not from the choice of prompts); 0 where it is exact.
    """

    reward: torch.Tensor
    kl: torch.Tensor
    value: torch.Tensor
    standard_error: torch.Tensor


def is_enumerable(env: Environment, evaluation: Evaluation) -> bool:
    """Whether every response can be enumerated: V ** T is at most the enumeration limit."""
    responses: int = env.vocab_size**env.output_dim
    return responses <= evaluation.enumeration_limit


def policy_value(policy: Policy, beta: float, prompts: torch.Tensor, evaluation: Evaluation) -> Value:
    """Value of a policy on prompts (S, B, D): exact where responses are enumerable, else from samples.

    For a policy whose log-ratios are known by a bound alone, a sampled value is a lower bound, and `kl` an upper one.
    """
    env = policy.env
    if is_enumerable(env, evaluation):
        return _enumerated(env, beta, prompts, policy.log_ratio_of_all)

    sampler = policy.sampler()

    def sampled(x: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        responses, log_ratio = sampler(x, uniforms)
        return torch.zeros_like(log_ratio), env.reward(x, responses), log_ratio

    return _sampled(env, beta, prompts, evaluation.samples, sampled, policy.uniforms_per_response)


def reference_value(env: Environment, prompts: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """E[r*] under the reference policy, (S,): in closed form where known, else exact where enumerable, else sampled."""
    known = env.reference_value(prompts)
    if known is not None:
        return known
    if is_enumerable(env, evaluation):
        return _enumerated(env, 0.0, prompts, lambda x: x.new_zeros(*x.shape[:2], 1)).reward

    def sampled(x: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rewards = env.reward(x, env.sample_reference(uniforms, x))
        return torch.zeros_like(rewards), rewards, torch.zeros_like(rewards)

    return _sampled(env, 0.0, prompts, evaluation.samples, sampled).reward


def normalized_value(value: torch.Tensor, reference: torch.Tensor, optimum: torch.Tensor) -> torch.Tensor:
    """(V - V_ref) / (V* - V_ref), elementwise: 0 is the reference policy, 1 the optimum."""
    return (value - reference) / (optimum - reference)


def soft_optimal_value(reward_model: RewardModel, beta: float, prompts: torch.Tensor, evaluation: Evaluation) -> Value:
    """Value of pi(y|x) = ref(y|x) exp(r(x, y) / beta) / Z(x), the best policy for a learned reward.

    Exact where responses are enumerable; else by self-normalized importance sampling from `RewardModel.propose`, less
    the first order of its bias (the jackknife, Quenouille 1956). The bias falls with the number of samples of a prompt,
    not with the number of prompts. Where KL(pi || proposal) is above the log of the number of samples, the
    remaining bias is large compared with the standard error.
    """
    env, samples = reward_model.env, evaluation.samples

    def log_ratio_of_all(x: torch.Tensor) -> torch.Tensor:
        """Log of exp(r / beta) / Z."""
        tilt = reward_model.rewards_of_all(x) / beta
        return tilt - (tilt + env.reference_log_prob(x, env.all_responses())).logsumexp(-1, keepdim=True)

    if is_enumerable(env, evaluation):
        return _enumerated(env, beta, prompts, log_ratio_of_all)

    def sampled(x: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        responses, log_proposal = reward_model.propose(x, uniforms)
        tilt = reward_model(x, responses) / beta
        log_weights = env.reference_log_prob(x, responses) + tilt - log_proposal
        log_partition = log_weights.logsumexp(-1, keepdim=True) - math.log(samples)
        return log_weights, env.reward(x, responses), tilt - log_partition

    return _sampled(env, beta, prompts, samples, sampled)


def _enumerated(
    env: Environment, beta: float, prompts: torch.Tensor, log_ratio_of_all: Callable[[torch.Tensor], torch.Tensor]
) -> Value:
    """Means over all responses, given a function (S, B, D) -> (S, B, V ** T) to log pi/ref of each of them."""
    responses = env.all_responses()
    at_once = max(_RESPONSES_AT_ONCE // responses.shape[2], _PROMPTS_AT_ONCE)
    totals = torch.zeros(2, len(env.seeds), device=prompts.device)
    with torch.no_grad():
        for x in prompts.split(at_once, dim=1):
            log_ratio = log_ratio_of_all(x)
            p = (log_ratio + env.reference_log_prob(x, responses)).exp()
            reward = (p * env.reward(x, responses)).sum((1, 2))
            kl = (p * log_ratio).sum((1, 2))
            totals += torch.stack([reward, kl])
    reward, kl = totals / prompts.shape[1]
    return Value(reward, kl, reward - beta * kl, torch.zeros_like(reward))


def _sampled(
    env: Environment,
    beta: float,
    prompts: torch.Tensor,
    samples: int,
    draw: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]],
    uniforms_per_response: int = 1,
) -> Value:
    """Means over samples.

    Args:
        env: the environment.
        beta: weight of the KL term.
        prompts: (S, B, D).
        samples: K, responses to each prompt.
        draw: function from prompts and uniform numbers, (S, B, K * uniforms_per_response, T), to the logs of the
            samples' weights up to an added constant, their true rewards and log pi/ref, each (S, B, K).
        uniforms_per_response: where it is above 1, samples may come in parts, and their weights have to be equal.
    """
    totals = torch.zeros(3, len(env.seeds), device=prompts.device)
    parts = -(-samples // max(_UNIFORMS_AT_ONCE // uniforms_per_response, 1)) if uniforms_per_response > 1 else 1
    with torch.no_grad():
        for block, x in enumerate(prompts.split(_PROMPTS_IN_BLOCK, dim=1)):
            # Samples, in parts where there are too many
            batches = []
            for part in range(parts):
                size = (samples + part) // parts
                shape = (x.shape[1], size * uniforms_per_response, env.output_dim)
                batches.append(draw(x, env.streams.uniform("evaluation.samples", shape, block * parts + part)))
            log_weights, rewards, log_ratio = (torch.cat(each, -1).double() for each in zip(*batches, strict=True))
            log_weights = log_weights.log_softmax(-1)
            values = torch.stack([rewards, log_ratio])
            # Jackknife: the means without each sample correct the bias of weighted means and of the log of an estimated
            # Z, and give the variance. With equal weights there is no bias, and mean and variance stay as they are.
            without, log_others = _without_each(log_weights, values)
            without[1] -= log_others + math.log(samples / (samples - 1))  # log Z in log pi/ref changes too
            corrected = samples * (log_weights.exp() * values).sum(-1) - (samples - 1) * without.mean(-1)
            # Variance of the value
            penalized = without[0] - beta * without[1]
            variance = penalized.var(-1) * (samples - 1) ** 2 / samples
            totals += torch.stack([*corrected.sum(-1), variance.sum(1)])
    reward, kl = totals[:2] / prompts.shape[1]
    standard_error = totals[2].sqrt() / prompts.shape[1]
    return Value(reward, kl, reward - beta * kl, standard_error)


def _without_each(log_weights: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each sample, the weighted means over all other samples and the log of the sum of their weights.

    Args:
        log_weights: of weights that sum to 1 over the last axis, (..., K), K >= 2.
        values: M quantities to average, (M, ..., K).
    """
    weights = log_weights.exp()
    others = _sums_without_each(weights)
    means, log_others = _sums_without_each(weights * values) / others, others.log()
    # Without the heaviest sample the rest may round to 0: its entry is computed from the logs
    heaviest = log_weights.argmax(-1, keepdim=True)
    rest = log_weights.scatter(-1, heaviest, -math.inf)
    log_others = log_others.scatter(-1, heaviest, rest.logsumexp(-1, keepdim=True))
    of_rest = (rest.softmax(-1) * values).sum(-1, keepdim=True)
    return means.scatter(-1, heaviest.expand_as(of_rest), of_rest), log_others


def _sums_without_each(values: torch.Tensor) -> torch.Tensor:
    """For each entry the sum of all others along the last axis, without subtraction from the total, which cancels."""
    before, after = values.cumsum(-1)[..., :-1], values.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    return torch.nn.functional.pad(before, (1, 0)) + torch.nn.functional.pad(after, (0, 1))
