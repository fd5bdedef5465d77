"""The optimizer that every stage shares: AdamW with warm-up and cosine decay over seed-stacked parameters."""

from __future__ import annotations

import math
from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT, Configuration
from alignsim.models.network import Parameters


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OptimizerConfig(Configuration):
    """The steps of a stage.

    Attributes:
        steps: gradient steps at most.
        learning_rate: learning rate at its peak.
        weight_decay: decoupled weight decay (Loshchilov & Hutter 2019).
        warmup_steps: the learning rate rises linearly over these, then falls to 0 along a half cosine.
    """

    steps: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = yaml_default("method/fit/default", "weight_decay")
    warmup_steps: NonNegativeInt = yaml_default("method/fit/default", "warmup_steps")

    def schedule(self, step: int) -> float:
        """The learning rate of a step, counted from 0, in (0, learning_rate]."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2


class StackedAdamW:
    """AdamW on a dictionary of stacked parameters; each seed's update depends on its own gradient alone.

    It calls the operation behind torch's fused AdamW. `torch.optim.AdamW` itself makes every process import torch's
    compiler, which takes a second, and its bookkeeping takes as long as the step of a small network.

    Attributes:
        diverged_at: the first step, from 1, at which a seed's loss was not finite, or after which `note_divergence`
            found its weights so; 0 while there is none, (S,).
    """

    def __init__(self, parameters: Parameters, config: OptimizerConfig) -> None:
        self._config = config
        self._leaves = list(parameters.values())
        for leaf in self._leaves:
            leaf.requires_grad_(True)
        device = self._leaves[0].device
        self._means = [torch.zeros_like(leaf) for leaf in self._leaves]  # of the gradient
        self._squares = [torch.zeros_like(leaf) for leaf in self._leaves]  # of its square
        self._n_steps = torch.zeros((), device=device)
        self._ones = torch.ones(len(self._leaves[0]), device=device)  # the derivative of the sum of the losses
        self.diverged_at = torch.zeros(len(self._leaves[0]), dtype=torch.long, device=device)

    def step(self, step: int, losses: torch.Tensor) -> None:
        """One descent step on the losses of all seeds, (S,). They share no parameter, so their sum keeps them apart."""
        gradients = torch.autograd.grad(losses, self._leaves, self._ones)
        with torch.no_grad():
            self._n_steps += 1
            torch._fused_adamw_(
                *(self._leaves, gradients, self._means, self._squares, [], [self._n_steps] * len(gradients)),
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self._config.schedule(step),
                weight_decay=self._config.weight_decay,
                eps=1e-8,
                maximize=False,
            )

    def note_divergence(self, step: int, losses: torch.Tensor) -> None:
        """Record the first step at which the losses or the weights of a seed are not finite; either may come first.

        Args:
            step: the number of steps so far.
            losses: the losses of the last steps, (steps, S).
        """
        steps = torch.arange(step - len(losses) + 1, step + 1, device=losses.device)[:, None]
        first = torch.where(torch.isfinite(losses), step + 1, steps).amin(0)
        finite = torch.ones_like(self.diverged_at, dtype=torch.bool)
        for leaf in self._leaves:
            finite &= torch.isfinite(leaf.detach()).flatten(1).all(1)
        first = torch.where(finite, first, first.clamp(max=step))
        self.diverged_at = torch.where((self.diverged_at == 0) & (first <= step), first, self.diverged_at)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, tensors by reference."""
        return {
            "parameters": [leaf.detach() for leaf in self._leaves],
            "means": self._means,
            "squares": self._squares,
            "n_steps": self._n_steps,
            "diverged_at": self.diverged_at,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a state, bit for bit."""
        ours = self.state()
        with torch.no_grad():
            for name in ("parameters", "means", "squares"):
                for tensor, value in zip(ours[name], state[name], strict=True):
                    tensor.copy_(value)
            self._n_steps.copy_(state["n_steps"])
        self.diverged_at = state["diverged_at"]

    def close(self) -> None:
        """Turn gradients of the parameters off again."""
        for leaf in self._leaves:
            leaf.requires_grad_(False)
