"""The simplified environment: `complexity_factor` makes generating harder and leaves verifying as it is.

The *content* of a response is a windowed sum of its tokens. The reward is additive over the content, so a verifier that
reads the content has the same easy problem at every complexity, and the KL-regularized optimum is known in closed form.
The reference policy factorizes over the content, too. The preference data may leave contents out.
"""

from __future__ import annotations

import math
from dataclasses import field
from functools import cached_property
from typing import Annotated

from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.base import Conditionals, Environment
from alignsim.envs.coverage import is_covered, new_keys, sample_covered
from alignsim.envs.references import Reference, Tilted, Uniform


def windows(output_dim: int, complexity_factor: float) -> list[int]:
    """The size of the window of each position: whole numbers, spread evenly, whose mean is the complexity factor.

    The mean is exact where `complexity_factor * output_dim` is whole and off by at most 1 / (2 output_dim) elsewhere.

    >>> windows(8, 2.5)
    [2, 3, 2, 3, 2, 3, 2, 3]
    """
    total = round(complexity_factor * output_dim)
    return [(t + 1) * total // output_dim - t * total // output_dim for t in range(output_dim)]


@dataclass(frozen=True, config=STRICT)
class SimplifiedEnvironment(Environment):
    """Responses with content z_t = (y_t + ... + y_{t-k_t+1}) mod V, where k_t = min(window_t, t + 1).

    The true reward is r*(x, y) = sum_t W[t, z_t] . x, with W drawn for each seed, centered over the vocabulary and
    scaled to a standard deviation of `reward_scale` under prompts and uniform responses. The reference policy is

        ref(y | x) = prod_t ref_t(z_t | x),   ref_t(v | x) proportional to exp(tilt * W[t, v] . x),

    with a tilt of 0 for a uniform reference, so that ref(y | x) is proportional to exp(tilt * r*(x, y)). Everything
    that a verifier reads (contents, labels, the optimum) is the same at every complexity factor for the same seed.

    Attributes:
        complexity_factor: the mean window, from 1 (a token is its content: no gap) to `output_dim`.
        reward_scale: standard deviation of the true reward over prompts and uniform responses.
        reference: the reference policy, uniform or tilted.
        coverage: the share of contents, in (0, 1], that the preference data may show, training and validation alike:
            the others never appear in it. The choice differs between seeds and does not depend on the prompt; the share
            is met on average over seeds.
    """

    complexity_factor: Annotated[float, Field(ge=1)] = 2.0
    reward_scale: PositiveFloat = 2.0
    reference: Reference = field(default_factory=Uniform)
    coverage: Annotated[float, Field(gt=0, le=1)] = field(default=1.0, kw_only=True)  # checked after vocab_size

    @field_validator("complexity_factor")
    @classmethod
    def _windows_fit(cls, factor: float, info: ValidationInfo) -> float:
        output_dim = info.data.get("output_dim")
        if output_dim is not None and factor > output_dim:
            raise ValueError(f"must be at most output_dim={output_dim}")
        return factor

    @field_validator("coverage")
    @classmethod
    def _shows_different_contents(cls, coverage: float, info: ValidationInfo) -> float:
        vocab_size, output_dim = info.data.get("vocab_size"), info.data.get("output_dim")
        if vocab_size is None or output_dim is None:
            return coverage  # their own problems are reported
        if math.log(coverage) + output_dim * math.log(vocab_size) < math.log(2) - 1e-9:
            contents = vocab_size**output_dim
            raise ValueError(f"must leave at least 2 of the {contents} contents: at least {2 / contents:.3g}")
        return coverage

    @field_validator("reference")
    @classmethod
    def _reference_is_known(cls, reference: Reference) -> Reference:
        if not isinstance(reference, (Uniform, Tilted)):
            raise ValueError(f"must be Uniform or Tilted here, not {type(reference).__name__}")
        return reference

    @property
    def _tilt(self) -> float:
        """Nats of log ref(y | x) for each unit of true reward; 0 where the reference is uniform."""
        return self.reference.tilt if isinstance(self.reference, Tilted) else 0.0

    @cached_property
    def _before_window(self) -> list[int]:
        """For each position, how many tokens come before its window."""
        sizes = windows(self.output_dim, self.complexity_factor)
        return [max(t + 1 - window, 0) for t, window in enumerate(sizes)]

    @cached_property
    def _windows(self) -> torch.Tensor:
        """Which tokens each position sums over, ones and zeros, (T, T)."""
        position = torch.arange(self.output_dim, device=self.device)
        first = torch.tensor(self._before_window, device=self.device)[:, None]
        return ((first <= position) & (position <= position[:, None])).float()

    @cached_property
    def reward_weights(self) -> torch.Tensor:
        """W, (S, T, V, D)."""
        weights = self.streams.normal("reward.weights", (self.output_dim, self.vocab_size, self.input_dim))
        centered = weights - weights.mean(2, keepdim=True)
        # Var r* = sum_t E_v |W[t, v]|^2 for x ~ N(0, I) and independent, uniform content
        deviation = centered.square().sum((1, 2, 3), keepdim=True).div(self.vocab_size).sqrt()
        return self.reward_scale * centered / deviation

    def tokens_to_content(self, responses: torch.Tensor) -> torch.Tensor:
        """Content of responses, (..., T) -> (..., T): windowed sums modulo the vocabulary. A bijection."""
        missing = max(3 - responses.dim(), 0)
        by_position = responses[(None,) * missing].transpose(-3, -1)  # memory layout of networks, (S, T, K, B)
        sums = self._windows @ by_position.flatten(-2).to(self._windows.dtype)
        return (sums % self.vocab_size).long().view(by_position.shape).transpose(-3, -1)[(0,) * missing]

    def content_to_tokens(self, content: torch.Tensor) -> torch.Tensor:
        """The response that has this content, (..., T) -> (..., T): the inverse of `tokens_to_content`."""
        sums = torch.zeros(*content.shape[:-1], self.output_dim + 1, dtype=content.dtype, device=content.device)
        for t, before in enumerate(self._before_window):
            sums[..., t + 1] = (content[..., t] + sums[..., before]) % self.vocab_size
        return sums.diff(dim=-1) % self.vocab_size

    def _content_rewards(self, prompts: torch.Tensor) -> torch.Tensor:
        """W[t, v] . x for every position and content token, (S, B, D) -> (S, B, T, V)."""
        weights = self.reward_weights.flatten(1, 2)  # (S, T * V, D)
        scores = torch.bmm(prompts, weights.transpose(1, 2))
        return scores.view(*scores.shape[:2], self.output_dim, self.vocab_size)

    def reward(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """True reward r*(x, y): (S, B, D), (S, B, K, T) -> (S, B, K)."""
        content, scores = self.tokens_to_content(responses), self._content_rewards(prompts)
        if content.shape[:2] == (1, 1):  # shared responses: one matrix product for all prompts
            one_hot = torch.nn.functional.one_hot(content[0, 0], self.vocab_size).flatten(1).to(scores.dtype)
            return (one_hot @ scores.flatten(2).mT).mT
        content = content.expand(*scores.shape[:2], *content.shape[2:])
        scores = scores[:, :, None].expand(*content.shape, self.vocab_size)
        return scores.gather(-1, content[..., None]).squeeze(-1).sum(-1)

    def _factors(self, prompts: torch.Tensor) -> torch.Tensor:
        """Log ref_t(v | x) of every position and content token, (S, B, D) -> (S, B, T, V); (T, V) where uniform."""
        if self._tilt == 0:
            return self._uniform_log_probs
        return (self._tilt * self._content_rewards(prompts)).log_softmax(-1)

    @cached_property
    def _uniform_log_probs(self) -> torch.Tensor:
        return torch.log_softmax(torch.zeros(self.output_dim, self.vocab_size, device=self.device), -1)

    def reference_log_probs(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log ref of the content that each next token y_t gives after the tokens before it, (S, B, K, T, V).

        Given the tokens before it, z_t = (y_t + their sum within the window) mod V, so these are the log-probabilities
        of the content in another order. For a uniform reference they are a tensor of -log V, (T, V).
        """
        if self._tilt == 0:
            return self._uniform_log_probs
        twice = self._factors(prompts).repeat(1, 1, 1, 2)[:, :, None]  # (S, B, 1, T, 2 V), in place of a modulus
        before = (self.tokens_to_content(responses) - responses) % self.vocab_size
        index = before[..., None] + torch.arange(self.vocab_size, device=self.device)
        index = index.expand(*twice.shape[:2], *index.shape[2:])
        return twice.expand(*index.shape[:-1], -1).gather(-1, index)

    def reference_conditionals(self, prompts: torch.Tensor) -> Conditionals:
        """The reference policy token by token: a position depends on the tokens in its window."""
        if self._tilt == 0:
            return Conditionals(self._uniform_log_probs, lambda tokens: self._uniform_log_probs[tokens.shape[-1]])
        vocabulary = torch.arange(self.vocab_size, device=self.device)
        twice = self._factors(prompts).repeat(1, 1, 1, 2)[:, :, None]  # (S, B, 1, T, 2 V)

        def after(tokens: torch.Tensor) -> torch.Tensor:
            t = tokens.shape[-1]
            before = tokens[..., self._before_window[t] :].sum(-1) % self.vocab_size
            index = (before[..., None] + vocabulary).expand(*twice.shape[:2], -1, -1)  # (S, B, K, V)
            return twice[:, :, :, t].expand(-1, -1, index.shape[2], -1).gather(-1, index)

        return Conditionals(None, after)

    def content_log_probs(self, prompts: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """Log ref_t(v | x), whatever the content before it, (S, B, 1, T, V); 0 where uniform."""
        if self._tilt == 0:
            return super().content_log_probs(prompts, content)
        return self._factors(prompts)[:, :, None]

    def sample_reference(self, uniforms: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Responses with independent content from ref_t, (S, B, K, T); the content depends on the arguments alone."""
        if self._tilt == 0:
            content = (uniforms * self.vocab_size).long().clamp(max=self.vocab_size - 1)
        else:
            below = self._factors(prompts).exp().cumsum(-1)[:, :, None, :, :-1]
            content = (uniforms[..., None] >= below).sum(-1)
        return self.content_to_tokens(content)

    def sample_shown(self, uniforms: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Responses from the reference policy given that their content is covered, (S, B, K, T)."""
        if self.coverage == 1:
            return self.sample_reference(uniforms, prompts)
        log_probs = self._factors(prompts)
        log_probs = log_probs[(None,) * (4 - log_probs.dim())]
        return self.content_to_tokens(sample_covered(log_probs, self._coverage_keys, self.coverage, uniforms))

    def is_covered(self, responses: torch.Tensor) -> torch.Tensor:
        """Whether the preference data may show responses, (S, B, K, T) -> (S, B, K)."""
        return is_covered(self._coverage_keys, self.coverage, self.tokens_to_content(responses))

    @cached_property
    def _coverage_keys(self) -> torch.Tensor:
        return new_keys(self.streams, self.output_dim, self.vocab_size)

    def reference_value(self, prompts: torch.Tensor) -> torch.Tensor:
        """Mean over prompts of sum_t sum_v ref_t(v | x) W[t, v] . x, (S,): 0 where uniform, W being centered."""
        if self._tilt == 0:
            return torch.zeros(len(self.seeds), device=self.device)
        return (self._factors(prompts).exp() * self._content_rewards(prompts)).sum((2, 3)).mean(1)

    def optimal_value(self, beta: float, prompts: torch.Tensor | None = None) -> torch.Tensor:
        """V*(x) = beta sum_t log sum_v ref_t(v | x) exp(W[t, v] . x / beta), mean over prompts, (S,).

        The closed form of max E[r*] - beta KL(policy || reference) for an additive reward over independent content.
        """
        prompts = self.prompts("evaluation", 512) if prompts is None else prompts
        return self._log_partition(beta, prompts).mean(1) * beta

    def optimal_log_prob(self, beta: float, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi*(y | x) = log ref(y | x) + r*(x, y) / beta - log Z(x): (S, B, D), (S, B, K, T) -> (S, B, K).

        The closed form of the optimal policy (Rafailov et al. 2023, equation 4).
        """
        tilt = self.reward(prompts, responses) / beta - self._log_partition(beta, prompts)[..., None]
        return self.reference_log_prob(prompts, responses) + tilt

    def _log_partition(self, beta: float, prompts: torch.Tensor) -> torch.Tensor:
        """Log Z(x) = sum_t log sum_v ref_t(v | x) exp(W[t, v] . x / beta), (S, B, D) -> (S, B)."""
        tilted = self._content_rewards(prompts) / beta
        if self._tilt == 0:
            return (tilted.logsumexp(-1) - math.log(self.vocab_size)).sum(-1)
        return (tilted + self._factors(prompts)).logsumexp(-1).sum(-1)
