"""The interface of environments for models, methods and measures, and how preference pairs are drawn from them.

The concrete worlds live in modules of their own; nothing here knows the content or the reward of a response.

Shapes throughout the package: S seeds, B prompts, D numbers in a prompt, K responses to each prompt, T tokens in a
response, V tokens in the vocabulary. Responses are always `(S, B, K, T)`; S and B may be 1 where they are shared.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from pydantic import BeforeValidator, Field, NonNegativeInt, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT, Component
from alignsim.envs.labels import BradleyTerry, Labels
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.envs.rng import Streams

if TYPE_CHECKING:
    from typing_extensions import Self


class Conditionals(NamedTuple):
    """Log-probabilities of each next token given the tokens before it, one position at a time.

    Attributes:
        fixed: the log-probabilities where they depend on the position alone, broadcastable to (T, V); else None.
        after: function from the tokens so far, (S, B, K, t), to the log-probabilities of the token at position t,
            broadcastable to (S, B, K, V).
    """

    fixed: torch.Tensor | None
    after: Callable[[torch.Tensor], torch.Tensor]

    @classmethod
    def from_log_probs(cls, env: Environment, log_probs: Callable[[torch.Tensor], torch.Tensor]) -> Conditionals:
        """The conditionals of a function (S, B, K, T) -> (S, B, K, T, V), which computes all positions for each one.

        Args:
            env: the environment, for its sizes and device.
            log_probs: log-probabilities at every position of responses; the result may broadcast to the shape above.
        """

        def after(tokens: torch.Tensor) -> torch.Tensor:
            t = tokens.shape[-1]
            padded = torch.nn.functional.pad(tokens, (0, env.output_dim - t))
            all_log_probs: torch.Tensor = torch.atleast_2d(log_probs(padded))
            return all_log_probs[..., min(t, all_log_probs.shape[-2] - 1), :]

        all_log_probs = log_probs(torch.zeros(1, 1, 1, env.output_dim, dtype=torch.long, device=env.device))
        return cls(all_log_probs if all_log_probs.dim() <= 2 else None, after)


def sum_over_tokens(values: torch.Tensor, tokens: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """The sum over positions of the entry of each token, (S, B, K).

    Args:
        values: a number for each position and token; any shape that broadcasts to (S, B, K, T, V).
        tokens: (S, B, K, T), int64; S and B may be 1.
        vocab_size: V.
    """
    shape = torch.broadcast_tensors(values[..., 0], tokens)[0].shape
    return values.expand(*shape, vocab_size).gather(-1, tokens.expand(shape)[..., None]).squeeze(-1).sum(-1)


def _as_tuple(seeds: object) -> object:
    if not isinstance(seeds, Iterable):
        raise ValueError("must be a sequence of whole numbers, such as range(16)")
    seeds = tuple(seeds)
    if len(set(seeds)) < len(seeds):
        raise ValueError("must differ from one another")
    return seeds


@dataclass(frozen=True, config=STRICT)
class Environment(Component, ABC):
    """A world with prompts, responses, a true reward and a reference policy, stacked over seeds.

    An environment is its own configuration: the fields up to `validation_fraction` are the keys of `conf/env/`.
    `seeds` and `device` come from the run.

    Attributes:
        input_dim: D, how many numbers a prompt has.
        output_dim: T, how many tokens a response has.
        vocab_size: V, how many tokens there are, at least 2.
        n_pairs: preference pairs for each seed, training and validation together.
        labels: how pairs are labeled.
        validation_fraction: the share of the pairs, in (0, 1), that are set aside for validation.
        seeds: one world for each; different whole numbers from 0.
        device: where tensors live, as torch names it.

    Raises:
        pydantic.ValidationError: a value is of the wrong type or out of range.
    """

    given_by_the_run: ClassVar[tuple[str, ...]] = ("seeds", "device")

    input_dim: Annotated[int, Field(ge=1, le=10_000)] = 8
    output_dim: Annotated[int, Field(ge=1, le=1_000)] = 8
    _: KW_ONLY
    vocab_size: Annotated[int, Field(ge=2, le=10_000)] = 2
    n_pairs: Annotated[int, Field(ge=1, le=10_000_000)] = 4000
    labels: Labels = field(default_factory=BradleyTerry)
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seeds: Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (0,)
    device: str = "cpu"

    @field_validator("validation_fraction")
    @classmethod
    def _split_leaves_something(cls, fraction: float, info: ValidationInfo) -> float:
        n_pairs = info.data.get("n_pairs")
        if n_pairs is not None and not 1 <= round(n_pairs * fraction) <= n_pairs - 1:
            raise ValueError(
                f"must leave at least one pair of n_pairs={n_pairs} on each side of the split,"
                f" and round({n_pairs} * {fraction:g}) = {round(n_pairs * fraction)} go to validation"
            )
        return fraction

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # The conditionals of a parent hold only while no class below it, mixins included, redefines their source
        names = {"tokens_to_content", "reference_log_probs", "reference_conditionals"}
        last = next(vars(parent) for parent in cls.__mro__ if names & vars(parent).keys())
        if "reference_conditionals" not in last:
            setattr(cls, "reference_conditionals", Environment.reference_conditionals)  # noqa: B010 (for mypy)

    @cached_property
    def streams(self) -> Streams:
        """The random streams of these seeds."""
        return Streams(self.seeds, self.device)

    # What an environment has to define.

    @abstractmethod
    def tokens_to_content(self, responses: torch.Tensor) -> torch.Tensor:
        """The content of responses, which is what a verifier reads, (..., T) -> (..., T)."""

    @abstractmethod
    def content_to_tokens(self, content: torch.Tensor) -> torch.Tensor:
        """The response that has this content, the inverse of `tokens_to_content`, (..., T) -> (..., T)."""

    @abstractmethod
    def reward(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """True reward r*(x, y): (S, B, D), (S, B, K, T) -> (S, B, K)."""

    @abstractmethod
    def reference_log_probs(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of each next token under the reference policy, given the tokens before it.

        (S, B, D), (S, B, K, T) -> (S, B, K, T, V), or any shape that broadcasts to it. Entry t may depend on the
        tokens before t only.
        """

    def reference_conditionals(self, prompts: torch.Tensor) -> Conditionals:
        """The reference policy token by token; a subclass may define it where one position is cheaper than all.

        A class that overrides `tokens_to_content` or `reference_log_probs` gets this method back, not that of a parent.
        """
        return Conditionals.from_log_probs(self, lambda tokens: self.reference_log_probs(prompts, tokens))

    @abstractmethod
    def sample_reference(self, uniforms: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Responses from the reference policy, (S, B, K, T), made from as many uniform numbers in [0, 1)."""

    @abstractmethod
    def optimal_value(self, beta: float, prompts: torch.Tensor | None = None) -> torch.Tensor | None:
        """V* = max over policies of E[r*] - beta KL(policy || reference), (S,); None where it is unknown.

        Args:
            beta: weight of the KL term, above 0.
            prompts: the mean is taken over these, (S, B, D); by default over 512 held-out ones.
        """

    # What an environment may define.

    def reference_value(self, prompts: torch.Tensor) -> torch.Tensor | None:
        """V of the reference policy, E[r*] under it, mean over prompts (S, B, D), (S,).

        None where no closed form is known: it is then enumerated or sampled, as every policy's value is.
        """
        return None

    def content_log_probs(self, prompts: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of each next piece of content given the ones before it, each up to an added constant.

        (S, B, D), (S, B, K, T) -> what broadcasts to (S, B, K, T, V). Only importance sampling uses it: the
        nearer it is to the reference policy, the smaller is the standard error. It is uniform by default.
        """
        return torch.zeros(1, 1, device=self.device)

    def sample_shown(self, uniforms: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Responses for the pairs to learn from, (S, B, K, T), by default from `sample_reference`."""
        return self.sample_reference(uniforms, prompts)

    # What every environment inherits.

    def prompts(self, purpose: str, n: int, block: int = 0) -> torch.Tensor:
        """Prompts x ~ N(0, I), (S, n, D), float32. Another purpose or block gives other prompts."""
        return self.streams.normal(f"{purpose}.prompts", (n, self.input_dim), block)

    def reference_log_prob(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log ref(y | x): (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return sum_over_tokens(self.reference_log_probs(prompts, responses), responses, self.vocab_size)

    def all_responses(self, length: int | None = None) -> torch.Tensor:
        """Every response, or every prefix of this length: (1, 1, V ** T, T), int64, the last token counting fastest."""
        length = self.output_dim if length is None else length
        index = torch.arange(self.vocab_size**length, device=self.device)[:, None]
        place_values = self.vocab_size ** torch.arange(length - 1, -1, -1, device=self.device)
        return (index // place_values % self.vocab_size)[None, None]

    def select_seeds(self, seed_indices: Sequence[int]) -> Self:
        """The same world for some of its seeds alone, at these indices along the seed axis."""
        return dataclasses.replace(self, seeds=tuple(self.seeds[index] for index in seed_indices))

    def preference_data(self) -> PreferenceData:
        """The pairs to learn from, split into training and validation."""
        pairs = self.sample_preferences("pairs", self.n_pairs, shown_only=True)
        n_train = self.n_pairs - round(self.n_pairs * self.validation_fraction)
        return PreferenceData(pairs[:n_train], pairs[n_train:])

    def sample_preferences(self, purpose: str, n: int, shown_only: bool = False) -> Preferences:
        """Sample n pairs of responses from the reference policy, labeled as `labels` says.

        The pairs of a seed depend on the seed and the purpose alone.

        Args:
            purpose: the name of the random stream; another name gives other pairs.
            n: the number of pairs for each seed.
            shown_only: whether responses come from `sample_shown` in place of `sample_reference`.
        """
        # Prompts and pairs of responses
        prompts = self.prompts(purpose, n)
        noise = self.streams.uniform(f"{purpose}.responses", (n, 2, self.output_dim))
        responses = (self.sample_shown if shown_only else self.sample_reference)(noise, prompts)
        # Labels and their noise
        rewards = self.reward(prompts, responses)
        p_first = self.labels.preference_probability(rewards, prompts, responses)
        first_wins = self.streams.uniform(f"{purpose}.labels", (n,)) < p_first
        flipped = self.streams.uniform(f"{purpose}.flips", (n,)) < self.labels.flip_probability
        first_wins = first_wins ^ flipped
        # The chosen response first
        chosen_first = torch.where(first_wins[..., None, None], responses, responses.flip(2))
        return Preferences(prompts, chosen_first)
