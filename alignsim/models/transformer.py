"""A small causal transformer decoder over the prompt and the tokens, stacked over seeds.

Its gradient is autograd's. Sampling caches the keys and values of earlier positions, so that each token costs one
position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.models.network import Decoder, Network, Parameters, StackedNetwork, token_codes

if TYPE_CHECKING:
    from alignsim.envs.rng import Streams


@dataclass(frozen=True, config=STRICT)
class Transformer(Network):
    """Causal transformer decoder (Vaswani et al. 2017) that normalizes before each block (Xiong et al. 2020).

    The prompt is the first position of the sequence, projected to the width of the others; GELU. Layer normalization
    has no weights of its own, since a linear layer follows each, and attention no biases: those of keys do nothing.

    Attributes:
        model_dim: E, numbers that each position has, a multiple of `n_heads`.
        n_layers: the number of blocks, each attention and then a perceptron.
        n_heads: heads of attention, which share out the `model_dim`.
        hidden_dim: H, units of the perceptron in each block.
    """

    model_dim: Annotated[int, Field(ge=1, le=16_384)] = 32
    n_layers: Annotated[int, Field(ge=1, le=100)] = 2
    n_heads: Annotated[int, Field(ge=1, le=100)] = 2
    hidden_dim: Annotated[int, Field(ge=1, le=16_384)] = 64

    @field_validator("n_heads")
    @classmethod
    def _share_out_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("model_dim")
        if width is not None and width % heads:
            raise ValueError(f"must divide model_dim={width}")
        return heads

    def build(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> TransformerNetwork:
        """The network for prompts of `input_dim` numbers and responses of `output_dim` tokens."""
        return TransformerNetwork(self, input_dim, output_dim, vocab_size, device)


class TransformerNetwork(StackedNetwork):
    """Position 0 reads the prompt, position t > 0 token t - 1; each attends to itself and to those before it.

    N are the responses of a seed, all prompts in a row. The parameters by name: `token.weight` (V, E),
    `position.weight` (T, E), `prompt.weight` (D, E), for each block `block0.attention.weight` (E, 3 E) to queries, keys
    and values, `block0.mix.weight` (E, E), `block0.up.weight` (E, H), `block0.down.weight` (H, E), and `output.weight`
    (E, V); from `prompt` on each has its bias, such as `prompt.bias` (E,), but for attention.
    """

    def __init__(self, config: Transformer, input_dim: int, output_dim: int, vocab_size: int, device: str) -> None:
        super().__init__(input_dim, output_dim, vocab_size, device)
        self.config = config
        self.head_dim = config.model_dim // config.n_heads
        self.blocks = [f"block{i}" for i in range(config.n_layers)]

    def initial_parameters(self, streams: Streams) -> Parameters:
        """Uniform(-1, 1) / sqrt(fan-in), with biases; embeddings Uniform(-1, 1); the last layer is zero."""
        width, hidden = self.config.model_dim, self.config.hidden_dim
        sizes = {"prompt": (self.input_dim, width)}
        for block in self.blocks:
            sizes |= {f"{block}.attention": (width, 3 * width), f"{block}.mix": (width, width)}
            sizes |= {f"{block}.up": (width, hidden), f"{block}.down": (hidden, width)}

        def uniform(name: str, *shape: int) -> torch.Tensor:
            return 2 * streams.uniform(f"weights.{name}", shape) - 1

        parameters: Parameters = {}
        for name, (inputs, outputs) in sizes.items():
            parameters[f"{name}.weight"] = uniform(f"{name}.weight", inputs, outputs) / inputs**0.5
            if not name.endswith("attention"):
                parameters[f"{name}.bias"] = uniform(f"{name}.bias", outputs) / inputs**0.5
        parameters["token.weight"] = uniform("token.weight", self.vocab_size, width)
        parameters["position.weight"] = uniform("position.weight", self.output_dim, width)
        seeds = len(streams.seeds)
        parameters["output.weight"] = torch.zeros(seeds, width, self.vocab_size, device=self.device)
        parameters["output.bias"] = torch.zeros(seeds, self.vocab_size, device=self.device)
        return parameters

    def logits(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits over every token given the ones before it: (S, B, D), (S, B, K, T) -> (S, B, K, T, V)."""
        seeds, n_prompts, _ = prompts.shape
        samples = tokens.shape[2]
        first = linear(parameters, "prompt", prompts)[:, :, None, None].expand(-1, -1, samples, -1, -1)
        rest = self.embedded(parameters, tokens[..., :-1]).expand(seeds, n_prompts, -1, -1, -1)
        stream = torch.cat([first, rest], 3) + parameters["position.weight"][:, None, None]
        stream = stream.flatten(1, 2)  # (S, N, T, E)
        for block in self.blocks:
            queries, keys, values = self.attention_inputs(parameters, block, stream)
            attended = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            attended = attended.unflatten(0, (seeds, -1)).transpose(2, 3).flatten(3)  # (S, N, T, E)
            stream = self.after_attention(parameters, block, stream, attended)
        return self.output_logits(parameters, stream).view(seeds, n_prompts, samples, -1, self.vocab_size)

    def embedded(self, parameters: Parameters, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings of tokens: (S or 1, ...) -> (S, ..., E)."""
        weight = parameters["token.weight"]
        codes = token_codes(tokens, self.vocab_size, weight.dtype)
        flat = codes.flatten(1, -2).expand(len(weight), -1, -1)
        return torch.bmm(flat, weight).view(len(weight), *codes.shape[1:-1], self.config.model_dim)

    def attention_inputs(
        self, parameters: Parameters, block: str, stream: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of some positions: (S, N, T, E) -> (S * N, heads, T, E / heads) each."""
        mixed = linear(parameters, f"{block}.attention", normalized(stream))
        mixed = mixed.flatten(0, 1).unflatten(2, (3, self.config.n_heads, self.head_dim))
        queries, keys, values = mixed.permute(2, 0, 3, 1, 4)
        return queries, keys, values

    def after_attention(
        self, parameters: Parameters, block: str, stream: torch.Tensor, attended: torch.Tensor
    ) -> torch.Tensor:
        """The output of a block from its input and the output of attention, (S, N, T, E) each."""
        stream = stream + linear(parameters, f"{block}.mix", attended)
        hidden = torch.nn.functional.gelu(linear(parameters, f"{block}.up", normalized(stream)))
        return stream + linear(parameters, f"{block}.down", hidden)

    def output_logits(self, parameters: Parameters, stream: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each position, (S, N, T, E) -> (S, N, T, V)."""
        return linear(parameters, "output", normalized(stream))

    def decoder(self, parameters: Parameters, prompts: torch.Tensor) -> Decoder:
        """A decoder that caches keys and values."""
        return _CachingDecoder(self, parameters, prompts)


class _CachingDecoder(Decoder):
    """Keys and values of each block at the positions so far, (S, B, K, heads, t, E / heads) each."""

    def __init__(self, network: TransformerNetwork, parameters: Parameters, prompts: torch.Tensor) -> None:
        self._network, self._parameters, self._prompts = network, parameters, prompts
        empty = prompts.new_empty(*prompts.shape[:2], 1, network.config.n_heads, 0, network.head_dim)
        self._cache = dict.fromkeys(network.blocks, (empty, empty))

    def next(self, tokens: torch.Tensor | None) -> torch.Tensor:
        network, parameters, t = self._network, self._parameters, self._cache["block0"][0].shape[4]
        if tokens is None:
            new = linear(parameters, "prompt", self._prompts)[:, :, None]
        else:
            new = network.embedded(parameters, tokens).expand(*self._prompts.shape[:2], -1, -1)
        responses = new.shape[:3]  # S, B, K
        stream = (new + parameters["position.weight"][:, t, None, None]).flatten(1, 2)[:, :, None]
        for block in network.blocks:
            inputs = network.attention_inputs(parameters, block, stream)
            queries, *new_entries = (part.view(*responses, *part.shape[1:]) for part in inputs)
            keys, values = (torch.cat(pair, 4) for pair in zip(self._cache[block], new_entries, strict=True))
            self._cache[block] = keys, values
            weights = ((queries * keys).sum(-1) / network.head_dim**0.5).softmax(-1)  # (S, B, K, heads, t + 1)
            attended = (weights[..., None] * values).sum(4)
            stream = network.after_attention(parameters, block, stream, attended.flatten(3).flatten(1, 2)[:, :, None])
        return network.output_logits(parameters, stream).view(*responses, -1)

    def branch(self, ways: int) -> None:
        for block, entries in self._cache.items():
            keys, values = (part.repeat_interleave(ways, 2) for part in entries)
            self._cache[block] = keys, values


def linear(parameters: Parameters, layer: str, values: torch.Tensor) -> torch.Tensor:
    """A linear layer of each seed's own, with a bias if it has one: (S, ..., inputs) -> (S, ..., outputs)."""
    weight, rows = parameters[f"{layer}.weight"], values.flatten(1, -2)
    bias = parameters.get(f"{layer}.bias")
    rows = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
    return rows.view(*values.shape[:-1], -1)


def normalized(stream: torch.Tensor) -> torch.Tensor:
    """Each position with mean 0 and variance 1 over its numbers."""
    return torch.nn.functional.layer_norm(stream, stream.shape[-1:])
