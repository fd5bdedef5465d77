"""The common part of policies and reward models: an environment, a stacked network and its parameters."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignsim._lazy import torch
from alignsim.envs.base import Environment
from alignsim.models.heads import Head
from alignsim.models.made import MADE
from alignsim.models.network import Network, Parameters, StackedNetwork

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class FitSummary:
    """The result of fitting a model to preference pairs, for each seed.

    Attributes:
        best_step: the step of the smallest validation loss, whose weights are the result, (S,), int64.
        validation_loss: the mean loss over the validation pairs at that step, in the units of the loss, (S,).
    """

    best_step: torch.Tensor
    validation_loss: torch.Tensor


class StackedModel:
    """A network for the prompts and responses of an environment, one set of weights for each of its seeds.

    Args:
        env: the environment whose shapes, seeds and device the model takes.
        network: the network's configuration, by default `MADE()`.

    Attributes:
        network: the network that the parameters belong to.
        parameters: tensors with a leading seed axis, trained in place. The same seed starts from the same weights
            in every model.
        fit: the summary of the fit to preference pairs; None before it.
    """

    def __init__(self, env: Environment, network: Network | None = None) -> None:
        self.env = env
        self.network = self.build(network or MADE())
        self.parameters: Parameters = self.network.initial_parameters(env.streams)
        self.fit: FitSummary | None = None

    def build(self, network: Network) -> StackedNetwork:
        """The network for the sizes of the environment."""
        env = self.env
        return network.build(env.input_dim, env.output_dim, env.vocab_size, env.device)

    def score(self, prompts: torch.Tensor, tokens: torch.Tensor, head: Head) -> torch.Tensor:
        """A score of each response, differentiable by the parameters: (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return self.network.score(self.parameters, prompts, tokens, head)

    def select_seeds(self, seed_indices: torch.Tensor) -> Self:
        """The model of some of its seeds, at these indices along the seed axis, with copies of their weights."""
        part = copy.copy(self)
        part.env = self.env.select_seeds(seed_indices.tolist())
        part.parameters = {name: p.detach()[seed_indices] for name, p in self.parameters.items()}
        return part
