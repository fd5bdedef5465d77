"""The interface of networks: logits over each token from the prompt and the tokens before it.

`Network` is a configuration, and `StackedNetwork` is the network that it builds, stacked over seeds. A new network
needs `logits` and `initial_parameters` alone; a `Decoder` of its own makes sampling cheap. What the logits mean (a
policy, a reward) is defined in `policy` and `reward`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT, Component
from alignsim.envs.base import Conditionals
from alignsim.models.heads import Head, last_logit_head

if TYPE_CHECKING:
    from alignsim.envs.rng import Streams

#: Tensors with a leading seed axis, by name.
Parameters = dict[str, "torch.Tensor"]


@dataclass(frozen=True, config=STRICT)
class Network(Component, ABC):
    """A kind of network and its sizes. The fields of a subclass are its configuration."""

    @abstractmethod
    def build(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> StackedNetwork:
        """The network for prompts of `input_dim` numbers and responses of `output_dim` tokens."""

    def build_scalar(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> ScalarReader:
        """A reader of one number for a prompt and a whole response, by default the first logit of one more position."""
        return ScalarReader(self.build(input_dim, output_dim + 1, vocab_size, device))


class Generated(NamedTuple):
    """Responses that a network generated.

    Attributes:
        tokens: (S, B, K, T), int64.
        score: function from a head to the scores of these responses, (S, B, K), or (S, T, B, K) for each token.
    """

    tokens: torch.Tensor
    score: Callable[[Head], torch.Tensor]


class Sampler(ABC):
    """Samples responses left to right. It follows its parameters when they are trained in place."""

    @abstractmethod
    def __call__(self, prompts: torch.Tensor, uniforms: torch.Tensor, offsets: Conditionals) -> Generated:
        """Responses to prompts (S, B, D) from softmax(offsets + logits).

        Args:
            prompts: (S, B, D).
            uniforms: numbers in [0, 1) that decide each token by the inverse distribution function, (S, B, K, T).
            offsets: numbers that are added to the logits of each next token.
        """


class StackedNetwork(ABC):
    """Logits over token t from (x, tokens before t), for every seed at once: pure functions of `Parameters`.

    The last layer starts at zero, and so do all logits.

    Args:
        input_dim: D, how many numbers a prompt has.
        output_dim: T, how many tokens a response has.
        vocab_size: V, how many tokens there are.
        device: where tensors live.
    """

    def __init__(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> None:
        self.input_dim, self.output_dim, self.vocab_size = input_dim, output_dim, vocab_size
        self.device = device

    @abstractmethod
    def initial_parameters(self, streams: Streams) -> Parameters:
        """The parameters that training starts from. The same seed gets the same ones in every model."""

    @abstractmethod
    def logits(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits over every token given the ones before it: (S, B, D), (S, B, K, T) -> (S, B, K, T, V).

        Differentiable by the parameters. The seed and prompt axes of `tokens` may be 1, where they are shared. Entry t
        depends on the tokens before t only.
        """

    def masked(self, parameters: Parameters) -> Parameters:
        """The parameters with zeros where the network has no connection."""
        return parameters

    def score(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor, head: Head) -> torch.Tensor:
        """A score of each response, differentiable by the parameters: (S, B, D), (S, B, K, T) -> (S, B, K).

        (S, T, B, K) where the head scores each token.
        """
        return apply_head(self.logits(parameters, prompts, tokens), tokens, head)

    def decoder(self, parameters: Parameters, prompts: torch.Tensor) -> Decoder:
        """A decoder of responses to prompts (S, B, D); by default one that reads all tokens again for each new one."""
        return _RereadingDecoder(self, parameters, prompts)

    def prefixes(self, parameters: Parameters, prompts: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits of the next token after every prefix, (S, V, V ** t, B) for each length t of the prefix from 0.

        Prefixes are in lexical order, the last token counting fastest.
        """
        decoder, every = self.decoder(parameters, prompts), torch.arange(self.vocab_size, device=self.device)
        for t in range(self.output_dim):
            if t:
                decoder.branch(self.vocab_size)
            tokens = every.repeat(self.vocab_size ** (t - 1))[None, None] if t else None
            yield decoder.next(tokens).permute(0, 3, 2, 1)

    def sampler(self, parameters: Parameters) -> Sampler:
        """A sampler of responses with these parameters."""
        return _DecoderSampler(self, parameters)


class Decoder(ABC):
    """Reads all responses token by token and returns the logits of the next token; each token costs one position.

    It begins with one empty response to each prompt.
    """

    @abstractmethod
    def next(self, tokens: torch.Tensor | None) -> torch.Tensor:
        """Logits of the token after one more token of each response, (S, B, K, V).

        Args:
            tokens: (S, B, K); the seed and prompt axes may be 1. None at the first call.
        """

    @abstractmethod
    def branch(self, ways: int) -> None:
        """Replace each response by `ways` copies of it, one after the other along the axis of responses."""


class _RereadingDecoder(Decoder):
    """A decoder for every network, which reads all tokens so far again for each new one."""

    def __init__(self, network: StackedNetwork, parameters: Parameters, prompts: torch.Tensor) -> None:
        self._network, self._parameters, self._prompts = network, parameters, prompts
        self._tokens = torch.zeros(1, 1, 1, 0, dtype=torch.long, device=prompts.device)

    def next(self, tokens: torch.Tensor | None) -> torch.Tensor:
        if tokens is not None:
            earlier = self._tokens.expand(*tokens.shape, -1)
            self._tokens = torch.cat([earlier, tokens[..., None]], -1)
        length, t = self._network.output_dim, self._tokens.shape[-1]
        whole = torch.nn.functional.pad(self._tokens, (0, length - t))
        return self._network.logits(self._parameters, self._prompts, whole)[..., t, :]

    def branch(self, ways: int) -> None:
        self._tokens = self._tokens.repeat_interleave(ways, 2)


class _DecoderSampler(Sampler):
    """Samples with a network's decoder, without gradients. A score with gradients takes one more pass."""

    def __init__(self, network: StackedNetwork, parameters: Parameters) -> None:
        self._network, self._parameters = network, parameters

    def __call__(self, prompts: torch.Tensor, uniforms: torch.Tensor, offsets: Conditionals) -> Generated:
        network, parameters, samples = self._network, self._parameters, uniforms.shape[2]
        tokens, all_logits = torch.zeros_like(uniforms, dtype=torch.long), []
        with torch.no_grad():
            decoder = network.decoder(parameters, prompts)
            for t, noise in enumerate(uniforms.unbind(-1)):
                logits = decoder.next(tokens[..., t - 1] if t else None).expand(-1, -1, samples, -1)
                if t == 0:
                    decoder.branch(samples)
                below = (logits + offsets.after(tokens[..., :t])).softmax(-1).cumsum(-1)[..., :-1]
                tokens[..., t] = (noise[..., None] >= below).sum(-1)
                all_logits.append(logits)

        def score(head: Head) -> torch.Tensor:
            if torch.is_grad_enabled():
                return network.score(parameters, prompts, tokens, head)
            return apply_head(torch.stack(all_logits, 3), tokens, head)

        return Generated(tokens, score)


class ScalarReader:
    """One number for a prompt and a whole response, 0 at the start: the first logit of a network's last position.

    The network has one more position than a response has tokens, so that its last position has read all of them.

    Attributes:
        network: the network whose logit it is.
    """

    def __init__(self, network: StackedNetwork) -> None:
        self.network = network

    def __call__(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The number, differentiable by the parameters: (S, B, D), (S, B, K, T) -> (S, B, K)."""
        longer = torch.nn.functional.pad(tokens, (0, 1))
        return self.network.score(parameters, prompts, longer, last_logit_head)


class PromptReader(ScalarReader):
    """A scalar reader that takes the response as part of the prompt: its network has D + T * V inputs and one token."""

    def __call__(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The number, differentiable by the parameters: (S, B, D), (S, B, K, T) -> (S, B, K)."""
        seeds, n_prompts, _ = prompts.shape
        codes = token_codes(tokens, self.network.vocab_size, prompts.dtype).flatten(3)
        codes = codes.expand(seeds, n_prompts, -1, -1)  # (S, B, K, T * V)
        whole = torch.cat([prompts[:, :, None].expand(-1, -1, codes.shape[2], -1), codes], 3).flatten(1, 2)
        nothing = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=prompts.device)
        scores = self.network.score(parameters, whole, nothing, last_logit_head)
        return scores.view(seeds, n_prompts, -1)


def token_codes(tokens: torch.Tensor, vocab_size: int, dtype: torch.dtype) -> torch.Tensor:
    """One-hot rows scaled to mean 0 and variance 1 under a uniform token: (...) -> (..., V)."""
    p = 1 / vocab_size
    deviation: float = (p * (1 - p)) ** 0.5
    return (torch.nn.functional.one_hot(tokens, vocab_size).to(dtype) - p) / deviation


def to_kernel_layout(values: torch.Tensor) -> torch.Tensor:
    """The memory layout of the kernels: a view that broadcasts to (S, T, V, K, B), from (S, B, K, T, V)."""
    return values[(None,) * (5 - values.dim())].permute(0, 3, 4, 2, 1)


def apply_head(logits: torch.Tensor, tokens: torch.Tensor, head: Head) -> torch.Tensor:
    """The scores that a head computes from logits (S, B, K, T, V): (S, B, K), or (S, T, B, K) for each token."""
    one_hot = torch.nn.functional.one_hot(tokens, logits.shape[-1]).to(logits.dtype)
    scores, _ = head(to_kernel_layout(logits), to_kernel_layout(one_hot.expand_as(logits)))
    return scores.mT
