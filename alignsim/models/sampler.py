"""Writing responses left to right with a masked network, at the price of one pass through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignsim.envs.base import Conditionals
from alignsim.lazy import torch
from alignsim.models.network import Parameters, Sampler, Written
from alignsim.models.scores import Activations, Head, scored

if TYPE_CHECKING:
    from alignsim.models.made import MADENetwork


class OnePassSampler(Sampler):
    """Draws responses left to right, without gradients.

    Position t only adds the hidden units of degree t, so all T tokens cost about one pass through the network, and
    what that pass computes is what `MADENetwork.forward` computes of the responses.
    """

    def __init__(self, network: MADENetwork, parameters: Parameters) -> None:
        self._network, self._parameters = network, parameters
        self._steps = [self._slices(t) for t in range(network.output_dim)]
        self._new_units = [units.stop - units.start for units in network.units]

    def _slices(self, t: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The weights (S, new units, units seen) and hidden biases (S, new units, 1) of each layer at position t."""
        network, new, weights, biases = self._network, self._network.units[t], [], []
        seen = network.input_dim + t * network.vocab_size
        for layer in network.layers[:-1]:
            weights.append(self._parameters[f"{layer}.weight"].detach()[:, :seen, new].mT)
            biases.append(self._parameters[f"{layer}.bias"].detach()[:, new, None])
            seen = new.stop
        outputs = slice(t * network.vocab_size, (t + 1) * network.vocab_size)
        weights.append(self._parameters["output.weight"].detach()[:, :seen, outputs].mT)
        return weights, biases

    def __call__(self, prompts: torch.Tensor, uniforms: torch.Tensor, offsets: Conditionals) -> Written:
        """As of `Sampler`; scores follow from the pass that wrote, and their gradient can be taken once."""
        network, parameters = self._network, self._parameters
        tokens, logits, activations = self.passed(prompts, uniforms, offsets)

        def score(head: Head) -> torch.Tensor:
            return scored(network, parameters, logits, activations, head)

        return Written(tokens, score)

    def passed(
        self, prompts: torch.Tensor, uniforms: torch.Tensor, offsets: Conditionals
    ) -> tuple[torch.Tensor, torch.Tensor, Activations]:
        """Tokens (S, B, K, T), logits and activations as of `MADENetwork.forward`."""
        network, vocab, samples = self._network, self._network.vocab_size, uniforms.shape[2]
        with torch.no_grad():
            inputs, codes = network.inputs(prompts, samples)
            one_hot = inputs.new_zeros(codes.shape)
            columns = (len(inputs), network.config.hidden_dim, inputs.shape[2])
            hidden = [inputs.new_empty(columns) for _ in network.layers[:-1]]
            noise = uniforms.permute(0, 3, 2, 1).flatten(2)  # (S, T, K * B)
            noise = noise.logit() if vocab == 2 else noise
            output_bias = self._parameters["output.bias"][..., None]
            if offsets.fixed is not None:
                output_bias = output_bias + offsets.fixed.expand(network.output_dim, vocab).reshape(-1, 1)
            written = torch.zeros_like(uniforms, dtype=torch.long)
            slots = [tokens.flatten(3).unbind(1) for tokens in (one_hot, codes)]  # (S, V, K * B) each
            rooms = [layer.split(self._new_units, 1) for layer in hidden]
            for t, (weights, biases) in enumerate(self._steps):
                below = inputs
                for layer, room, weight, bias in zip(hidden, rooms, weights, biases, strict=False):
                    raw = torch.baddbmm(bias, weight, below.narrow(1, 0, weight.shape[2]))
                    torch.clamp_min(raw, 0, out=room[t])
                    below = layer
                bias = output_bias.narrow(1, t * vocab, vocab)
                logits = torch.baddbmm(bias, weights[-1], below.narrow(1, 0, weights[-1].shape[2]))
                if offsets.fixed is None:
                    offset = offsets.after(written[..., :t]).expand(*uniforms.shape[:3], vocab)
                    logits += offset.permute(0, 3, 2, 1).flatten(2)
                self._draw(logits, noise[:, t], slots[0][t])
                network.encode(slots[0][t], slots[1][t])
                if offsets.fixed is None:
                    written[..., t] = network.tokens(one_hot[:, t : t + 1])[..., 0]
            logits = network.affine(self._parameters, "output", below).view_as(codes)
            return network.tokens(one_hot), logits, Activations([inputs, *hidden], one_hot)

    def _draw(self, logits: torch.Tensor, noise: torch.Tensor, one_hot: torch.Tensor) -> None:
        """Write the next token into `one_hot` (S, V, N), by the inverse distribution function.

        Args:
            logits: of the token, (S, V, N).
            noise: uniform numbers u in [0, 1), (S, N); for two tokens log(u / (1 - u)): that saves a softmax.
            one_hot: overwritten.
        """
        if self._network.vocab_size == 2:
            (first, second), (is_first, is_second) = logits.unbind(1), one_hot.unbind(1)
            difference = first - second
            torch.lt(noise, difference, out=is_first)
            torch.ge(noise, difference, out=is_second)
        else:
            below = logits.softmax(1).cumsum(1)[:, :-1]
            token = (noise[:, None] >= below).sum(1, keepdim=True)
            torch.eq(token, self._network.vocabulary[:, 0], out=one_hot)
