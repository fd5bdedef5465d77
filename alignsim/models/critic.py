"""The value network of PPO: the expected return before each token."""

from __future__ import annotations

from alignsim._lazy import torch
from alignsim.models.base import StackedModel
from alignsim.models.heads import mean_head


class ValueModel(StackedModel):
    """V(x, tokens before t): the mean over the vocabulary of the logits at position t, 0 at the start."""

    @classmethod
    def beside(cls, model: StackedModel) -> ValueModel:
        """A fresh value model with a network like another model's, and parameters of its own."""
        value = cls.__new__(cls)
        value.env, value.network, value.fit = model.env, model.network, None
        value.parameters = model.network.initial_parameters(model.env.streams)
        return value

    def values(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """The value of the state before each token: (S, B, D), (S, B, K, T) -> (S, B, K, T)."""
        return self.score(prompts, responses, mean_head).permute(0, 2, 3, 1)
