"""The sizes of what is timed, and the arithmetic that they take. No models or clocks here.

Arithmetic is that of matrix products alone, a multiplication and an addition as two operations. A pass through a
network is counted through its dense shapes, masked entries too; nothing is counted twice that one pass can give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignsim.envs.simplified import SimplifiedEnvironment
from alignsim.models.config import ModelConfig
from alignsim.models.made import MADE
from alignsim.runs.hardware import processes_at_once, seeds_in_stack


@dataclass(frozen=True)
class Sizes:
    """What an environment and its models are made of; all else is as by default.

    Attributes:
        input_dim: D, numbers in a prompt.
        output_dim: T, tokens in a response.
        vocab_size: V, different tokens.
        n_pairs: preference pairs for each seed.
        hidden_dim: H, units of a hidden layer.
        n_layers: L, hidden layers.
    """

    input_dim: int = SimplifiedEnvironment.input_dim
    output_dim: int = SimplifiedEnvironment.output_dim
    vocab_size: int = SimplifiedEnvironment.vocab_size
    n_pairs: int = SimplifiedEnvironment.n_pairs
    hidden_dim: int = MADE.hidden_dim
    n_layers: int = MADE.n_layers

    @property
    def network(self) -> MADE:
        """The network of both models."""
        return MADE(hidden_dim=self.hidden_dim, n_layers=self.n_layers)

    @property
    def model(self) -> ModelConfig:
        """Both models."""
        return ModelConfig(self.network)

    def env(self, seeds: Sequence[int], device: str) -> SimplifiedEnvironment:
        """The environment of some seeds."""
        return SimplifiedEnvironment(
            self.input_dim,
            self.output_dim,
            vocab_size=self.vocab_size,
            n_pairs=self.n_pairs,
            seeds=tuple(seeds),
            device=device,
        )


def shares(seeds: int, device: str, threads: int | None) -> list[list[range]]:
    """Seeds 0, 1, ... as the command line trains them by default: the stacks of each process that trains at once."""
    at_once = processes_at_once(device, threads)
    size = seeds_in_stack(device, seeds, at_once)
    stacks = [range(start, min(start + size, seeds)) for start in range(0, seeds, size)]
    return [stacks[i::at_once] for i in range(min(at_once, len(stacks)))]


def supervised_step(sizes: Sizes, pairs: int) -> int:
    """Operations of a gradient step on B pairs, each two responses R = 2 B to one prompt.

    2 [2 B D H + 2 R T V H + 3 (L - 1) R H H + 3 R H T V]: a forward product and the gradient of its weights in every
    layer, the gradient of its input in all but the first. Both responses share the prompt's half of the first layer.
    """
    return forward(sizes, pairs, 2 * pairs) + gradient(sizes, pairs, 2 * pairs)


def policy_gradient_step(sizes: Sizes, prompts: int, samples: int) -> int:
    """Operations of an RL step on N = B K responses: 2 forward passes and one gradient.

    One pass writes the responses and scores them with the policy, since a masked network needs each of its units once
    for all T tokens; the other scores them with the reward model.
    """
    responses = prompts * samples
    return 2 * forward(sizes, prompts, responses) + gradient(sizes, prompts, responses)


def exact_evaluation(sizes: Sizes, prompts: int) -> int:
    """Operations of scoring all V ** T responses to each of P prompts.

    2 [P D H + sum_t V^t (t V h_t + P ((L - 1) h_t H_t + H_t V))]; h_t of the hidden units are of position t and H_t of
    the positions up to t. Position t is computed once for each of its V ** t prefixes, without masked entries, and its
    tokens' share of the first layer once for all prompts.
    """
    vocab, length, width = sizes.vocab_size, sizes.output_dim, sizes.hidden_dim
    up_to = [-(-t * width // length) for t in range(length + 1)]  # hidden units before position t
    products = prompts * sizes.input_dim * width
    for t in range(length):
        new, end = up_to[t + 1] - up_to[t], up_to[t + 1]
        products += vocab**t * (t * vocab * new + prompts * ((sizes.n_layers - 1) * new * end + end * vocab))
    return 2 * products


def sampled_evaluation(sizes: Sizes, prompts: int, samples: int) -> int:
    """Operations of writing K responses to each of P prompts and scoring them: one forward pass."""
    return forward(sizes, prompts, prompts * samples)


def forward(sizes: Sizes, prompts: int, responses: int) -> int:
    """Operations of one forward pass over B prompts and N responses to them.

    2 [B D H + N T V H + (L - 1) N H H + N H T V]
    """
    inner, outputs = _inner_and_outputs(sizes, responses)
    return _first_layer(sizes, prompts, responses) + inner + outputs


def gradient(sizes: Sizes, prompts: int, responses: int) -> int:
    """Operations of the gradient after such a pass: 2 [B D H + N T V H + 2 (L - 1) N H H + 2 N H T V]."""
    inner, outputs = _inner_and_outputs(sizes, responses)
    return _first_layer(sizes, prompts, responses) + 2 * inner + 2 * outputs


def _first_layer(sizes: Sizes, prompts: int, responses: int) -> int:
    tokens = sizes.output_dim * sizes.vocab_size
    return 2 * sizes.hidden_dim * (prompts * sizes.input_dim + responses * tokens)


def _inner_and_outputs(sizes: Sizes, responses: int) -> tuple[int, int]:
    width = sizes.hidden_dim
    tokens = sizes.output_dim * sizes.vocab_size
    return 2 * (sizes.n_layers - 1) * responses * width * width, 2 * responses * width * tokens
