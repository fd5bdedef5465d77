"""The optimiser that every stage shares: AdamW with warm-up and cosine decay over seed-stacked parameters."""

from __future__ import annotations

import math

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.lazy import torch
from alignsim.models.made import Parameters


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Optimisation:
    """How a stage takes its steps.

    Attributes:
        steps: gradient steps at most.
        learning_rate: at its peak.
        weight_decay: decoupled (Loshchilov & Hutter 2019).
        warmup_steps: the learning rate rises linearly over these, then falls to 0 along a half cosine.
    """

    steps: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.01
    warmup_steps: NonNegativeInt = 50

    def schedule(self, step: int) -> float:
        """The learning rate of a step from 0, in (0, learning_rate]."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2


class Optimiser:
    """AdamW on a dictionary of stacked parameters; each seed's update depends on its own gradient alone."""

    def __init__(self, parameters: Parameters, settings: Optimisation) -> None:
        self._settings = settings
        self._leaves = list(parameters.values())
        for leaf in self._leaves:
            leaf.requires_grad_(True)
        self._adamw = torch.optim.AdamW(
            self._leaves, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def step(self, step: int, losses: torch.Tensor) -> None:
        """One descent step on the losses of all seeds, (S,). They share no parameter, so their sum keeps them apart."""
        for group in self._adamw.param_groups:
            group["lr"] = self._settings.schedule(step)
        self._adamw.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum())
        self._adamw.step()

    def close(self) -> None:
        """Leave plain tensors behind, without gradients."""
        for leaf in self._leaves:
            leaf.requires_grad_(False)
            leaf.grad = None
