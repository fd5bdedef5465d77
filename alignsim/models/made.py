"""The default network: a masked autoregressive multilayer perceptron, stacked over seeds.

Pure functions of a dictionary of parameters, each with a leading seed axis. What the logits mean (a policy, a
reward) is defined in `policy` and `reward`.

`logits` is the readable form of the network, and autograd differentiates it. Training uses the same mathematics
in a faster form, `alignsim.models.made_kernels`, for which this one is the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.problems import Problem
from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.models.heads import Head
from alignsim.models.made_kernels import MADEKernels, OnePassSampler, code_scale_and_shift, differentiable_scores
from alignsim.models.network import Network, Parameters, PromptReader, Sampler, StackedNetwork

if TYPE_CHECKING:
    from alignsim.envs.rng import Streams


@dataclass(frozen=True, config=STRICT)
class MADE(Network):
    """Masked autoencoder for distribution estimation (Germain et al. 2015), conditioned on a prompt; ReLU.

    Attributes:
        hidden_dim: H, units of each hidden layer, at least one for each position of a response: the units are
            shared out evenly, and position t reads those of the positions up to t.
        n_layers: how many hidden layers.
        autoregressive: whether position t sees the tokens before it. False cuts these connections and leaves one
            independent classifier of the prompt for each position.
    """

    hidden_dim: Annotated[int, Field(ge=1, le=16_384)] = 64
    n_layers: Annotated[int, Field(ge=1, le=100)] = 2
    autoregressive: bool = True

    def build(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> MADENetwork:
        """The network for prompts of `input_dim` numbers and responses of `output_dim` tokens.

        Raises:
            ValueError: there are fewer hidden units than positions.
        """
        if self.hidden_dim < output_dim:
            raise ValueError(f"hidden_dim={self.hidden_dim}: must be at least output_dim={output_dim}")
        return MADENetwork(self, input_dim, output_dim, vocab_size, device)

    def build_scalar(self, input_dim: int, output_dim: int, vocab_size: int, device: str) -> PromptReader:
        """An ordinary multilayer perceptron on prompt and response: a network of one position has no masks."""
        return PromptReader(self.build(input_dim + output_dim * vocab_size, 1, vocab_size, device))

    def problems(self, env: Environment) -> list[Problem]:
        """A problem where there are too few hidden units for the positions of a response."""
        if self.hidden_dim >= env.output_dim:
            return []
        message = f"must be at least env.output_dim={env.output_dim}, one unit for each position"
        return [Problem("hidden_dim", self.hidden_dim, message)]


class MADENetwork(StackedNetwork):
    """Logits over token t from (x, tokens before t), for every position at once.

    Each hidden unit has a degree d in 0 ... T - 1 and sees the tokens before position d; units are sorted by
    degree, so the units that may feed position t are a leading slice of each layer. A layer has two parameters, by
    name: `hidden0.weight` (D + T * V, H), `hidden0.bias` (H,), ..., `output.weight` (H, T * V), `output.bias`.
    """

    def __init__(self, config: MADE, input_dim: int, output_dim: int, vocab_size: int, device: str) -> None:
        super().__init__(input_dim, output_dim, vocab_size, device)
        self.config = config
        self._code_scale, self._code_shift = code_scale_and_shift(vocab_size, device)
        self.layers = [*(f"hidden{layer}" for layer in range(config.n_layers)), "output"]

    @cached_property
    def units(self) -> list[slice]:
        """The hidden units of each degree: unit i of H has degree i * T // H."""
        starts = [-(-t * self.config.hidden_dim // self.output_dim) for t in range(self.output_dim + 1)]
        return [slice(start, end) for start, end in pairwise(starts)]

    @cached_property
    def _masks(self) -> Parameters:
        """Ones where a weight may differ from zero, by parameter name; biases have no mask."""
        positions = torch.arange(self.output_dim, device=self.device).repeat_interleave(self.vocab_size)
        hidden_dim = self.config.hidden_dim
        degrees = torch.arange(hidden_dim, device=self.device) * self.output_dim // hidden_dim
        prompt_to_hidden = torch.ones(self.input_dim, hidden_dim, dtype=torch.bool, device=self.device)
        token_to_hidden = (positions[:, None] < degrees) & self.config.autoregressive
        masks = {"hidden0.weight": torch.cat([prompt_to_hidden, token_to_hidden])}
        for layer in self.layers[1:-1]:
            masks[f"{layer}.weight"] = degrees[:, None] <= degrees
        masks["output.weight"] = degrees[:, None] <= positions
        return {name: mask.float() for name, mask in masks.items()}

    def initial_parameters(self, streams: Streams) -> Parameters:
        """Uniform(-1, 1) / sqrt(fan-in) for each unit's own, unmasked fan-in; the last layer is zero.

        The same seed gets the same weights in every model.
        """
        width, outputs = self.config.hidden_dim, self.output_dim * self.vocab_size
        fan_in = {layer: self._masks[f"{layer}.weight"].sum(0) for layer in self.layers}  # (H,)

        def uniform(name: str, shape: tuple[int, ...], layer: str) -> torch.Tensor:
            return (2 * streams.uniform(f"weights.{name}", shape) - 1) / fan_in[layer].sqrt()

        prompt = uniform("prompt.weight", (self.input_dim, width), "hidden0")
        token = uniform("token.weight", (outputs, width), "hidden0")
        parameters = {"hidden0.weight": torch.cat([prompt, token], 1)}
        parameters["hidden0.bias"] = uniform("hidden0.bias", (width,), "hidden0")
        for layer in self.layers[1:-1]:
            parameters[f"{layer}.weight"] = uniform(f"{layer}.weight", (width, width), layer)
            parameters[f"{layer}.bias"] = uniform(f"{layer}.bias", (width,), layer)
        n_seeds = len(streams.seeds)
        parameters["output.weight"] = torch.zeros(n_seeds, width, outputs, device=self.device)
        parameters["output.bias"] = torch.zeros(n_seeds, outputs, device=self.device)
        return self.masked(parameters)

    def masked(self, parameters: Parameters) -> Parameters:
        """The parameters with zeros for weights that would break the order of the positions."""
        return {name: p * self._masks[name] if name in self._masks else p for name, p in parameters.items()}

    # The readable form, which autograd differentiates.

    def logits(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits over every token given the ones before it: (S, B, D), (S, B, K, T) -> (S, B, K, T, V).

        The seed and prompt axes of `tokens` may be 1; the work on the tokens is then shared.
        """
        one_hot = torch.nn.functional.one_hot(tokens, self.vocab_size).to(prompts.dtype)
        codes = one_hot * self._code_scale + self._code_shift  # (S or 1, B or 1, K, T, V)
        weights = self.masked(parameters)
        of_prompt, of_tokens = weights["hidden0.weight"].tensor_split([self.input_dim], 1)
        from_prompt = torch.baddbmm(weights["hidden0.bias"][:, None], prompts, of_prompt)
        seeds, n_prompts, _ = from_prompt.shape
        flat = codes.flatten(-2).flatten(1, 2).expand(seeds, -1, -1)  # (S, B or 1 * K, T * V)
        from_tokens = torch.bmm(flat, of_tokens).unflatten(1, codes.shape[1:3])
        hidden = (from_prompt[:, :, None] + from_tokens).relu().flatten(1, 2)  # (S, B * K, H)
        for layer in self.layers[1:-1]:
            hidden = torch.baddbmm(weights[f"{layer}.bias"][:, None], hidden, weights[f"{layer}.weight"]).relu()
        out = torch.baddbmm(weights["output.bias"][:, None], hidden, weights["output.weight"])
        return out.view(seeds, n_prompts, -1, self.output_dim, self.vocab_size)

    # The fast form of the same mathematics.

    @cached_property
    def kernels(self) -> MADEKernels:
        """The passes that training, sampling and enumeration use."""
        return MADEKernels(
            self.input_dim, self.output_dim, self.vocab_size, self.layers, self.units, self._masks, self.device
        )

    def score(self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor, head: Head) -> torch.Tensor:
        """A score of each response, as `StackedNetwork.score` says; its gradient can be taken once."""
        with torch.no_grad():
            logits, activations = self.kernels.forward(parameters, prompts, tokens)
        return differentiable_scores(self.kernels, parameters, logits, activations, head)

    def sampler(self, parameters: Parameters) -> Sampler:
        """A sampler that samples and scores responses in one pass."""
        return OnePassSampler(self.kernels, parameters)

    def prefixes(self, parameters: Parameters, prompts: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits of the next token after every prefix, as `StackedNetwork.prefixes` says, each prefix read once."""
        return self.kernels.prefixes(parameters, prompts)
