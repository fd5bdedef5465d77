"""The optimiser that every stage shares: AdamW with warm-up and cosine decay over seed-stacked parameters."""

from __future__ import annotations

import math
from typing import Any

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
    """AdamW on a dictionary of stacked parameters; each seed's update depends on its own gradient alone.

    Attributes:
        diverged_at: the first step, from 1, at which a seed's loss or weights were not finite; 0 while they are, (S,).
    """

    def __init__(self, parameters: Parameters, settings: Optimisation) -> None:
        self._settings = settings
        self._leaves = list(parameters.values())
        for leaf in self._leaves:
            leaf.requires_grad_(True)
        self._adamw = torch.optim.AdamW(
            self._leaves, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        first = self._leaves[0]
        self.diverged_at = torch.zeros(first.shape[0], dtype=torch.long, device=first.device)

    def step(self, step: int, losses: torch.Tensor) -> None:
        """One descent step on the losses of all seeds, (S,). They share no parameter, so their sum keeps them apart."""
        for group in self._adamw.param_groups:
            group["lr"] = self._settings.schedule(step)
        self._adamw.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum())
        self._adamw.step()
        self._note_divergence(step + 1, torch.isfinite(losses.detach()))

    def check_weights(self, step: int) -> None:
        """Note the seeds whose weights are not finite after `step` steps: their losses may not show it at once."""
        finite = torch.ones_like(self.diverged_at, dtype=torch.bool)
        for leaf in self._leaves:
            finite &= torch.isfinite(leaf.detach()).flatten(1).all(1)
        self._note_divergence(step, finite)

    def _note_divergence(self, step: int, finite: torch.Tensor) -> None:
        self.diverged_at = torch.where((self.diverged_at == 0) & ~finite, step, self.diverged_at)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, tensors by reference."""
        return {
            "parameters": [leaf.detach() for leaf in self._leaves],
            "adamw": self._adamw.state_dict()["state"],
            "diverged_at": self.diverged_at,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, bit for bit."""
        with torch.no_grad():
            for leaf, value in zip(self._leaves, state["parameters"], strict=True):
                leaf.copy_(value)
        self._adamw.load_state_dict(self._adamw.state_dict() | {"state": state["adamw"]})
        self.diverged_at = state["diverged_at"].to(self.diverged_at)

    def close(self) -> None:
        """Leave plain tensors behind, without gradients."""
        for leaf in self._leaves:
            leaf.requires_grad_(False)
            leaf.grad = None
