"""The network behind policies and reward models: a masked autoregressive multilayer perceptron, stacked over seeds.

Pure functions of a dictionary of parameters, each with a leading seed axis. What the logits mean (a policy, a
reward) is said in `policy` and `reward`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.lazy import torch

if TYPE_CHECKING:
    from alignsim.streams import Streams

Parameters = dict[str, "torch.Tensor"]


@dataclass(frozen=True, config=STRICT)
class MADE:
    """Masked autoencoder for distribution estimation (Germain et al. 2015), conditioned on a prompt; ReLU.

    Attributes:
        hidden_dim: H, units of each hidden layer, at least one for each position of a response: the units are
            shared out evenly, and position t is fed by those of the positions up to t.
        n_layers: how many hidden layers.
        prefix: whether position t sees the tokens before it. False cuts these connections and leaves one
            independent classifier of the prompt for each position.
    """

    hidden_dim: PositiveInt = 64
    n_layers: PositiveInt = 2
    prefix: bool = True

    def build(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> MADENetwork:
        """The network for prompts of `input_dim` numbers and responses of `output_dim` tokens.

        Raises:
            ValueError: there are fewer hidden units than positions.
        """
        if self.hidden_dim < output_dim:
            raise ValueError(f"hidden_dim={self.hidden_dim}: must be at least output_dim={output_dim}")
        return MADENetwork(self, input_dim, output_dim, vocab_size, device)


class MADENetwork:
    """Logits over token t from (x, tokens before t), for every position at once.

    Each hidden unit has a degree d in 0 ... T - 1 and sees the tokens before position d; units are sorted by
    degree, so the units that may feed position t are a leading slice of each layer.
    """

    def __init__(self, config: MADE, input_dim: int, output_dim: int, vocab_size: int, device: str) -> None:
        self.config = config
        self.input_dim, self.output_dim, self.vocab_size = input_dim, output_dim, vocab_size
        self.device = device

    @cached_property
    def _degrees(self) -> torch.Tensor:
        """Degree of each hidden unit, ascending, (H,)."""
        hidden_dim = self.config.hidden_dim
        return torch.arange(hidden_dim, device=self.device) * self.output_dim // hidden_dim

    @cached_property
    def _units_up_to(self) -> list[int]:
        """How many hidden units have a degree of at most t, for each position t."""
        degrees = self._degrees.tolist()
        return [sum(d <= t for d in degrees) for t in range(self.output_dim)]

    @cached_property
    def _masks(self) -> Parameters:
        """Which weights may differ from zero, by parameter name; every other weight may."""
        positions = torch.arange(self.output_dim, device=self.device).repeat_interleave(self.vocab_size)
        degrees = self._degrees
        token_to_hidden = (positions[:, None] < degrees) & self.config.prefix
        masks = {"token.weight": token_to_hidden, "output.weight": degrees[:, None] <= positions}
        for layer in range(1, self.config.n_layers):
            masks[f"hidden{layer}.weight"] = degrees[:, None] <= degrees
        return {name: mask.float() for name, mask in masks.items()}

    @cached_property
    def _codes(self) -> torch.Tensor:
        """One-hot rows, standardised to mean 0 and variance 1 under a uniform token, (V, V)."""
        p = 1 / self.vocab_size
        return (torch.eye(self.vocab_size, device=self.device) - p) / math.sqrt(p * (1 - p))

    def initial_parameters(self, streams: Streams) -> Parameters:
        """Uniform(-1, 1) / sqrt(fan-in) for each unit's own, unmasked fan-in; the last layer is zero.

        The same seed gets the same weights in every model.
        """
        width, outputs = self.config.hidden_dim, self.output_dim * self.vocab_size
        inputs = self.input_dim + self._masks["token.weight"].sum(0)  # (H,)
        parameters = {}

        def draw(name: str, shape: tuple[int, ...], fan_in: torch.Tensor) -> None:
            uniform = 2 * streams.uniform(f"weights.{name}", shape) - 1
            parameters[name] = uniform / fan_in.sqrt()

        draw("prompt.weight", (self.input_dim, width), inputs)
        draw("token.weight", (outputs, width), inputs)
        draw("hidden0.bias", (width,), inputs)
        for layer in range(1, self.config.n_layers):
            fan_in = self._masks[f"hidden{layer}.weight"].sum(0)
            draw(f"hidden{layer}.weight", (width, width), fan_in)
            draw(f"hidden{layer}.bias", (width,), fan_in)
        n_seeds = len(streams.seeds)
        parameters["output.weight"] = torch.zeros(n_seeds, width, outputs, device=self.device)
        parameters["output.bias"] = torch.zeros(n_seeds, outputs, device=self.device)
        return parameters

    def _masked(self, parameters: Parameters) -> Parameters:
        return {name: p * self._masks[name] if name in self._masks else p for name, p in parameters.items()}

    def logits(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits over every token given the ones before it: (S, B, D), (S, B, K, T) -> (S, B, K, T, V).

        The seed and prompt axes of `tokens` may be 1; the work on the tokens is then shared.
        """
        return self.logits_of_codes(parameters, prompts, torch.nn.functional.embedding(tokens, self._codes))

    def logits_of_codes(self, parameters: Parameters, prompts: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """The same from what the network sees of the tokens, (S, B, K, T, V) real numbers."""
        weights = self._masked(parameters)
        from_prompt = torch.baddbmm(weights["hidden0.bias"][:, None], prompts, weights["prompt.weight"])
        seeds, n_prompts, _ = from_prompt.shape
        flat = codes.flatten(-2).flatten(1, 2).expand(seeds, -1, -1)  # (S, B or 1 * K, T * V)
        from_tokens = torch.bmm(flat, weights["token.weight"]).unflatten(1, codes.shape[1:3])
        hidden = (from_prompt[:, :, None] + from_tokens).relu().flatten(1, 2)  # (S, B * K, H)
        for layer in range(1, self.config.n_layers):
            bias = weights[f"hidden{layer}.bias"][:, None]
            hidden = torch.baddbmm(bias, hidden, weights[f"hidden{layer}.weight"]).relu()
        out = torch.baddbmm(weights["output.bias"][:, None], hidden, weights["output.weight"])
        return out.view(seeds, n_prompts, -1, self.output_dim, self.vocab_size)

    def sample(
        self,
        parameters: Parameters,
        prompts: torch.Tensor,
        uniforms: torch.Tensor,
        offsets: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Draw responses left to right from softmax(offsets + logits), without gradients.

        Position t only adds the hidden units of degree t, so all T tokens cost about one pass through the network.

        Args:
            parameters: of this network.
            prompts: (S, B, D).
            uniforms: numbers in [0, 1) that decide each token by the inverse distribution function, (S, B, K, T).
            offsets: from tokens (S, B, K, T), of which only those before t are drawn yet, to log-probabilities that
                are added to the logits, whose entry t is used; broadcastable to (S, B, K, T, V).

        Returns:
            Tokens, (S, B, K, T), int64.
        """
        vocab, samples = self.vocab_size, uniforms.shape[2]
        with torch.no_grad():
            weights = self._masked(parameters)
            from_prompt = torch.baddbmm(weights["hidden0.bias"][:, None], prompts, weights["prompt.weight"])
            hidden = from_prompt.repeat_interleave(samples, dim=1)  # (S, B * K, H)
            layers = [hidden, *(torch.empty_like(hidden) for _ in range(1, self.config.n_layers))]
            codes = hidden.new_empty(*hidden.shape[:2], self.output_dim * vocab)
            tokens = torch.zeros(uniforms.shape, dtype=torch.long, device=prompts.device)
            start = 0
            for t in range(self.output_dim):
                end, seen = self._units_up_to[t], slice(0, t * vocab)
                new = slice(start, end)
                layers[0][..., new] += torch.bmm(codes[..., seen], weights["token.weight"][:, seen, new])
                layers[0][..., new].relu_()
                for depth, (below, layer) in enumerate(pairwise(layers), start=1):
                    bias, weight = weights[f"hidden{depth}.bias"], weights[f"hidden{depth}.weight"]
                    raw = torch.baddbmm(bias[:, None, new], below[..., :end], weight[:, :end, new])
                    layer[..., new] = raw.relu_()
                outputs = slice(t * vocab, (t + 1) * vocab)
                bias, weight = weights["output.bias"], weights["output.weight"]
                logits = torch.baddbmm(bias[:, None, outputs], layers[-1][..., :end], weight[:, :end, outputs])
                offset = offsets(tokens)[..., t, :]
                below_token = (offset + logits.view(*tokens.shape[:3], vocab)).softmax(-1).cumsum(-1)[..., :-1]
                tokens[..., t] = (uniforms[..., t, None] >= below_token).sum(-1)
                codes[..., outputs] = self._codes[tokens[..., t]].flatten(1, 2)
                start = end
        return tokens
