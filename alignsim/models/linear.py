"""The log-linear network: logits are linear in fixed features of the prompt and the tokens, stacked over seeds."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.models.heads import sum_head
from alignsim.models.network import Decoder, Network, Parameters, ScalarReader, StackedNetwork, token_codes

if TYPE_CHECKING:
    from alignsim.envs.rng import Streams


@dataclass(frozen=True, config=STRICT)
class Linear(Network):
    """Logits of token t that are linear in the prompt and in the one-hot tokens before it, with a bias.

    So log pi(y | x), apart from its normalizers, is linear in products of x with one token and in products of two
    tokens. It can express which token a prompt asks for and which tokens go together, but nothing about three tokens or
    about a prompt and two tokens.
    It has no hidden layer and no sizes of its own; all its weights start at zero, and the losses on pairs of the
    tokenwise and the scalar head are convex.
    """

    def build(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> LinearNetwork:
        """The network for prompts of `input_dim` numbers and responses of `output_dim` tokens."""
        return LinearNetwork(input_dim, output_dim, vocab_size, device)

    def build_scalar(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> ScalarReader:
        """A reward that is linear in the features of the policy: the sum of the logits of the tokens."""
        return _SumOfLogits(self.build(input_dim, output_dim, vocab_size, device))


class LinearNetwork(StackedNetwork):
    """logits_t = x W_t + codes of the tokens before t U_t + b_t.

    The parameters are `prompt.weight` (D, T * V), `token.weight` (T * V, T * V) and `bias` (T * V,).
    """

    @cached_property
    def _mask(self) -> torch.Tensor:
        """Which weights from tokens (rows) to logits may differ from zero, (T * V, T * V)."""
        positions = torch.arange(self.output_dim, device=self.device).repeat_interleave(self.vocab_size)
        return (positions[:, None] < positions).float()

    def initial_parameters(self, streams: Streams) -> Parameters:
        """All parameters start at zero."""
        outputs, seeds = self.output_dim * self.vocab_size, len(streams.seeds)
        shapes = {"prompt.weight": (self.input_dim, outputs), "token.weight": (outputs, outputs), "bias": (outputs,)}
        return {name: torch.zeros(seeds, *shape, device=self.device) for name, shape in shapes.items()}

    def masked(self, parameters: Parameters) -> Parameters:
        """The parameters without connections from a token to itself or to earlier ones."""
        return parameters | {"token.weight": parameters["token.weight"] * self._mask}

    def logits(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits over every token given the ones before it: (S, B, D), (S, B, K, T) -> (S, B, K, T, V)."""
        from_prompt = torch.baddbmm(parameters["bias"][:, None], prompts, parameters["prompt.weight"])
        codes = token_codes(tokens, self.vocab_size, prompts.dtype).flatten(3)  # (S or 1, B or 1, K, T * V)
        flat = codes.flatten(1, 2).expand(len(prompts), -1, -1)
        from_tokens = torch.bmm(flat, parameters["token.weight"] * self._mask).unflatten(1, codes.shape[1:3])
        logits: torch.Tensor = from_prompt[:, :, None] + from_tokens
        return logits.view(*prompts.shape[:2], -1, self.output_dim, self.vocab_size)

    def decoder(self, parameters: Parameters, prompts: torch.Tensor) -> Decoder:
        """A decoder that adds the contribution of each token to the logits of all later ones."""
        return _AdditiveDecoder(self, parameters, prompts)


class _AdditiveDecoder(Decoder):
    """Stores the logits of all positions as far as the tokens so far determine them, (S, B, K, T * V)."""

    def __init__(self, network: LinearNetwork, parameters: Parameters, prompts: torch.Tensor) -> None:
        self._vocab, self._t = network.vocab_size, 0
        self._weights = network.masked(parameters)["token.weight"].unflatten(1, (-1, self._vocab))  # (S, T, V, T * V)
        self._logits = torch.baddbmm(parameters["bias"][:, None], prompts, parameters["prompt.weight"])[:, :, None]

    def next(self, tokens: torch.Tensor | None) -> torch.Tensor:
        if tokens is not None:
            codes = token_codes(tokens, self._vocab, self._logits.dtype)
            flat = codes.flatten(1, 2).expand(len(self._logits), -1, -1)
            contribution = torch.bmm(flat, self._weights[:, self._t]).unflatten(1, codes.shape[1:3])
            self._logits, self._t = self._logits + contribution, self._t + 1
        return self._logits[..., self._t * self._vocab : (self._t + 1) * self._vocab]

    def branch(self, ways: int) -> None:
        self._logits = self._logits.repeat_interleave(ways, 2)


class _SumOfLogits(ScalarReader):
    """The sum of the logits of a response's tokens."""

    def __call__(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.network.score(parameters, prompts, tokens, sum_head)
