"""The fast form of MADE: forward and backward passes derived by hand, and sampling at the price of one pass.

Responses of a seed lie along the last axis, `(S, features, responses)`, so that every elementwise operation runs over
long rows, and each layer's gradient is two matrix products. The readable network, `alignsim.models.made`, is the
reference that tests compare with; masked weights are zero here and stay so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from alignsim._lazy import torch
from alignsim.envs.base import Conditionals
from alignsim.models.heads import Head
from alignsim.models.network import Generated, Parameters, Sampler


class Activations(NamedTuple):
    """The intermediate results of a forward pass that a gradient derived by hand needs.

    Attributes:
        layers: the inputs (prompt, then token codes) and the output of each hidden layer, (S, features, K * B) each.
        tokens: one-hot, (S, T, V, K, B).
    """

    layers: list[torch.Tensor]
    tokens: torch.Tensor


class MADEKernels:
    """The passes of a masked network for given sizes.

    Args:
        input_dim: D, how many numbers a prompt has.
        output_dim: T, how many tokens a response has.
        vocab_size: V, how many tokens there are.
        layers: the names of the layers, the last one `output`.
        units: the hidden units of each degree, in every hidden layer, T slices.
        masks: which weights may differ from zero, by parameter name.
        device: where tensors live.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        vocab_size: int,
        layers: list[str],
        units: list[slice],
        masks: Parameters,
        device: str,
    ) -> None:
        self.input_dim, self.output_dim, self.vocab_size = input_dim, output_dim, vocab_size
        self.layers, self.units, self._masks, self.device = layers, units, masks, device
        self.hidden_dim: int = units[-1].stop
        self._code_scale, self._code_shift = code_scale_and_shift(vocab_size, device)
        #: The tokens as numbers to compare with, (V, 1, 1).
        self.vocabulary = torch.arange(vocab_size, dtype=torch.float32, device=device).view(-1, 1, 1)

    def forward(
        self, parameters: Parameters, prompts: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, Activations]:
        """Logits (S, T, V, K, B) of tokens (S, B, K, T) after prompts (S, B, D), and activations for the gradient."""
        inputs, codes = self.inputs(prompts, tokens.shape[2])
        one_hot = inputs.new_empty(codes.shape)
        by_position = tokens.expand(*prompts.shape[:2], -1, -1).permute(0, 3, 2, 1)[:, :, None]  # (S, T, 1, K, B)
        torch.eq(by_position.to(inputs.dtype), self.vocabulary, out=one_hot)
        self.encode(one_hot, codes)
        layers = [inputs]
        for layer in self.layers[:-1]:
            layers.append(self.linear(parameters, layer, layers[-1]).relu_())
        return self.linear(parameters, "output", layers[-1]).view_as(codes), Activations(layers, one_hot)

    def backward(self, parameters: Parameters, activations: Activations, slopes: torch.Tensor) -> Parameters:
        """The gradient of a scalar for each parameter, from its derivatives by the logits, (S, T, V, K, B).

        The activations are overwritten.
        """
        gradients: Parameters = {}
        inputs, *_ = activations.layers
        delta = slopes.flatten(3).flatten(1, 2)  # by the output of a layer before its ReLU, (S, features, K * B)
        buffer = None
        for layer, below in zip(reversed(self.layers), reversed(activations.layers), strict=True):
            weight = f"{layer}.weight"
            gradients[weight] = torch.bmm(below, delta.mT).mul_(self._masks[weight])
            gradients[f"{layer}.bias"] = delta.sum(-1)
            if below is not inputs:
                delta = torch.bmm(parameters[weight], delta, out=buffer)
                torch.ops.aten.threshold_backward.grad_input(delta, below, 0, grad_input=delta)
                buffer = below
        return gradients

    def inputs(self, prompts: torch.Tensor, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Memory for the inputs of K responses to each prompt, (S, D + T * V, K * B), and a view of it for the codes.

        The prompts are filled in. The codes, (S, T, V, K, B), are not.
        """
        seeds, n_prompts, input_dim = prompts.shape
        shape = (seeds, input_dim + self.output_dim * self.vocab_size, samples, n_prompts)
        inputs = prompts.new_empty(shape)
        inputs[:, :input_dim] = prompts.mT[:, :, None]
        codes = inputs[:, input_dim:].unflatten(1, (self.output_dim, self.vocab_size))
        return inputs.flatten(2), codes

    @staticmethod
    def linear(parameters: Parameters, layer: str, below: torch.Tensor) -> torch.Tensor:
        """The output of a layer before its ReLU, (S, inputs, K * B) -> (S, outputs, K * B)."""
        return torch.baddbmm(parameters[f"{layer}.bias"][..., None], parameters[f"{layer}.weight"].mT, below)

    def prefixes(self, parameters: Parameters, prompts: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits of the next token after every prefix, (S, V, V ** t, B) for each length t of the prefix from 0.

        Prefixes are in lexical order, the last token counting fastest. A unit of degree t is computed once for each
        prefix of t tokens and not once for each whole response.
        """
        weights = {layer: parameters[f"{layer}.weight"] for layer in self.layers}
        biases = {layer: parameters[f"{layer}.bias"][..., None] for layer in self.layers}
        first, n_prompts = weights["hidden0"], prompts.shape[1]
        from_prompt = torch.baddbmm(biases["hidden0"], first[:, : self.input_dim].mT, prompts.mT)[:, :, None]
        hidden = [prompts.new_empty(len(prompts), 0, 1, n_prompts) for _ in self.layers[:-1]]
        codes = prompts.new_empty(0, 1)  # of the tokens of every prefix, (t * V, V ** t)
        for t, new in enumerate(self.units):
            if t:
                hidden = [layer.repeat_interleave(self.vocab_size, 2) for layer in hidden]
                codes = self._extended(codes)
            tokens = slice(self.input_dim, self.input_dim + len(codes))
            raw = from_prompt[:, new] + (first[:, tokens, new].mT @ codes)[..., None]  # (S, new units, V ** t, B)
            for i, layer in enumerate(self.layers[1:]):
                hidden[i] = torch.cat([hidden[i], raw.relu_()], 1)
                out = slice(t * self.vocab_size, (t + 1) * self.vocab_size) if layer == "output" else new
                weight = weights[layer][:, : new.stop, out].mT
                raw = torch.baddbmm(biases[layer][:, out], weight, hidden[i].flatten(2)).unflatten(2, (-1, n_prompts))
            yield raw

    def _extended(self, codes: torch.Tensor) -> torch.Tensor:
        """The codes of every prefix with each token after it: (t * V, V ** t) -> ((t + 1) * V, V ** (t + 1))."""
        last = torch.eye(self.vocab_size, device=self.device) * self._code_scale + self._code_shift
        return torch.cat([codes.repeat_interleave(self.vocab_size, 1), last.repeat(1, codes.shape[1])])

    def tokens(self, one_hot: torch.Tensor) -> torch.Tensor:
        """Tokens (S, B, K, T), int64, from one-hot ones, (S, T, V, K, B)."""
        return (one_hot * self.vocabulary).sum(2).long().permute(0, 3, 2, 1)

    def encode(self, one_hot: torch.Tensor, codes: torch.Tensor) -> None:
        """Write the codes that the network reads in place of one-hot tokens into `codes`, of the same shape."""
        torch.add(self._code_shift, one_hot, alpha=self._code_scale, out=codes)


def code_scale_and_shift(vocab_size: int, device: str) -> tuple[float, torch.Tensor]:
    """Scale and shift from a one-hot token to its code, which has mean 0 and variance 1 if tokens are uniform."""
    p = 1 / vocab_size
    scale = 1 / math.sqrt(p * (1 - p))
    return scale, torch.tensor(-p * scale, device=device)


def differentiable_scores(
    kernels: MADEKernels, parameters: Parameters, logits: torch.Tensor, activations: Activations, head: Head
) -> torch.Tensor:
    """Scores (S, B, K), or (S, T, B, K), after a forward pass, differentiable by the parameters, once.

    Args:
        kernels: the kernels of the pass.
        parameters: its parameters, unchanged since.
        logits: its logits, (S, T, V, K, B).
        activations: its activations.
        head: computes scores from logits.
    """
    scores: torch.Tensor = _function().apply(
        *(kernels, tuple(parameters), logits, activations, head), *parameters.values()
    )
    return scores


@cache
def _function() -> Any:
    """The autograd function. It is defined at its first use, so that importing this module does not import torch."""

    class Scored(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any,
            kernels: MADEKernels,
            names: tuple[str, ...],
            logits: torch.Tensor,
            activations: Activations,
            head: Head,
            *parameters: torch.Tensor,
        ) -> torch.Tensor:
            scores, ctx.slopes = head(logits, activations.tokens)
            ctx.kernels, ctx.names, ctx.activations = kernels, names, activations
            ctx.save_for_backward(*parameters)
            return scores.mT

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, weight: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            if ctx.slopes is None:
                raise RuntimeError("the gradient of these scores was taken before: it works in the memory of the pass")
            parameters = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
            weight = weight.mT[:, None] if weight.dim() == 3 else weight.mT  # (S, T or 1, K, B)
            slopes = ctx.slopes().mul_(weight[:, :, None])
            gradients = ctx.kernels.backward(parameters, ctx.activations, slopes)
            ctx.slopes = ctx.activations = None
            return None, None, None, None, None, *(gradients[name] for name in ctx.names)

    return Scored


class OnePassSampler(Sampler):
    """Samples responses left to right, without gradients.

    Position t only adds the hidden units of degree t, so all T tokens cost about one pass through the network. The
    logits and activations of that pass equal those that `MADEKernels.forward` computes from the responses.
    """

    def __init__(self, kernels: MADEKernels, parameters: Parameters) -> None:
        self._kernels, self._parameters = kernels, parameters
        self._steps = [self._slices(t) for t in range(kernels.output_dim)]
        self._new_units = [units.stop - units.start for units in kernels.units]

    def _slices(self, t: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The weights (S, new units, inputs so far) and hidden biases (S, new units, 1) of each layer at position t."""
        kernels, new, weights, biases = self._kernels, self._kernels.units[t], [], []
        n_inputs = kernels.input_dim + t * kernels.vocab_size
        for layer in kernels.layers[:-1]:
            weights.append(self._parameters[f"{layer}.weight"].detach()[:, :n_inputs, new].mT)
            biases.append(self._parameters[f"{layer}.bias"].detach()[:, new, None])
            n_inputs = new.stop
        outputs = slice(t * kernels.vocab_size, (t + 1) * kernels.vocab_size)
        weights.append(self._parameters["output.weight"].detach()[:, :n_inputs, outputs].mT)
        return weights, biases

    def __call__(self, prompts: torch.Tensor, uniforms: torch.Tensor, offsets: Conditionals) -> Generated:
        """Sample responses as `Sampler` says. Scores reuse the pass that sampled; their gradient can be taken once."""
        kernels, parameters = self._kernels, self._parameters
        tokens, logits, activations = self.sample_in_one_pass(prompts, uniforms, offsets)

        def score(head: Head) -> torch.Tensor:
            return differentiable_scores(kernels, parameters, logits, activations, head)

        return Generated(tokens, score)

    def sample_in_one_pass(
        self, prompts: torch.Tensor, uniforms: torch.Tensor, offsets: Conditionals
    ) -> tuple[torch.Tensor, torch.Tensor, Activations]:
        """Sampled tokens (S, B, K, T) with the logits and activations that `MADEKernels.forward` computes of them."""
        kernels, vocab, samples = self._kernels, self._kernels.vocab_size, uniforms.shape[2]
        with torch.no_grad():
            # Memory for one pass through the network
            inputs, codes = kernels.inputs(prompts, samples)
            one_hot = inputs.new_zeros(codes.shape)
            columns = (len(inputs), kernels.hidden_dim, inputs.shape[2])
            hidden = [inputs.new_empty(columns) for _ in kernels.layers[:-1]]
            # Noise and biases, in the layout of the pass
            noise = uniforms.permute(0, 3, 2, 1).flatten(2)  # (S, T, K * B)
            noise = noise.logit() if vocab == 2 else noise
            output_bias = self._parameters["output.bias"][..., None]
            if offsets.fixed is not None:
                output_bias = output_bias + offsets.fixed.expand(kernels.output_dim, vocab).reshape(-1, 1)
            tokens_so_far = torch.zeros_like(uniforms, dtype=torch.long)
            slots = [tokens.flatten(3).unbind(1) for tokens in (one_hot, codes)]  # (S, V, K * B) each
            buffers = [layer.split(self._new_units, 1) for layer in hidden]
            for t, (weights, biases) in enumerate(self._steps):
                # Hidden units of degree t
                below = inputs
                for layer, buffer, weight, bias in zip(hidden, buffers, weights, biases, strict=False):
                    raw = torch.baddbmm(bias, weight, below.narrow(1, 0, weight.shape[2]))
                    torch.clamp_min(raw, 0, out=buffer[t])
                    below = layer
                # Logits of the token at position t
                bias = output_bias.narrow(1, t * vocab, vocab)
                logits = torch.baddbmm(bias, weights[-1], below.narrow(1, 0, weights[-1].shape[2]))
                if offsets.fixed is None:
                    offset = offsets.after(tokens_so_far[..., :t]).expand(*uniforms.shape[:3], vocab)
                    logits += offset.permute(0, 3, 2, 1).flatten(2)
                # The token and its code
                self._draw(logits, noise[:, t], slots[0][t])
                kernels.encode(slots[0][t], slots[1][t])
                if offsets.fixed is None:
                    tokens_so_far[..., t] = kernels.tokens(one_hot[:, t : t + 1])[..., 0]
            # Logits of all positions, for scores
            logits = kernels.linear(self._parameters, "output", below).view_as(codes)
            return kernels.tokens(one_hot), logits, Activations([inputs, *hidden], one_hot)

    def _draw(self, logits: torch.Tensor, noise: torch.Tensor, one_hot: torch.Tensor) -> None:
        """Write the next token into `one_hot` (S, V, N), by the inverse distribution function.

        Args:
            logits: of the token, (S, V, N).
            noise: uniform numbers u in [0, 1), (S, N); for two tokens log(u / (1 - u)): that saves a softmax.
            one_hot: overwritten.
        """
        if self._kernels.vocab_size == 2:
            (first, second), (is_first, is_second) = logits.unbind(1), one_hot.unbind(1)
            difference = first - second
            torch.lt(noise, difference, out=is_first)
            torch.ge(noise, difference, out=is_second)
        else:
            below = logits.softmax(1).cumsum(1)[:, :-1]
            token = (noise[:, None] >= below).sum(1, keepdim=True)
            torch.eq(token, self._kernels.vocabulary[:, 0], out=one_hot)
