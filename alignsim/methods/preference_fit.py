"""The one loop that fits a model to preference pairs: reward models and direct preference methods alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.envs.rng import Streams
from alignsim.methods.base import Monitor, State, map_tensors
from alignsim.methods.optimizer import Optimisation, Optimiser
from alignsim.models.base import Fit, StackedModel
from alignsim.models.network import Parameters

Model = TypeVar("Model", bound=StackedModel)

#: From a model and a batch of pairs to the loss of each pair, (S, B), in whatever that loss is counted.
PairLoss = Callable[[Model, Preferences], "torch.Tensor"]

#: Validation pairs that are looked at together: bounds memory, stays in cache.
_LOOKED_AT_AT_ONCE = 128


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Supervised(Optimisation):
    """How a model is fitted to preference pairs.

    Attributes:
        batch_size: pairs in a step; all training pairs where there are fewer.
        validate_every: steps between two looks at the validation pairs.
        patience: looks without a smaller validation loss after which a seed has stopped improving.
    """

    steps: PositiveInt = 3000
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 128
    validate_every: PositiveInt = 25
    patience: PositiveInt = 20


def fit_to_preferences(
    model: Model,
    loss: PairLoss[Model],
    data: PreferenceData,
    settings: Supervised,
    *,
    phase: str,
    monitor: Monitor,
) -> None:
    """Minimise the mean loss over the training pairs; keep, for each seed, the weights of its best validation loss.

    A seed stops improving when `patience` looks in a row brought no smaller validation loss. It then leaves the stack
    and costs nothing any more. Its result does not depend on the other seeds.

    Args:
        model: its `parameters` and `fit` are set to the best found, step 0 included.
        loss: from a model, the given one for some of its seeds, and a batch of their pairs to the loss of each pair.
        data: training and validation pairs.
        settings: steps, batches, learning rate, validation.
        phase: the stage's name for the monitor.
        monitor: hears the training loss (mean since the last look) and the validation loss of the seeds in the stack.
    """
    result, saved = _Result(model), monitor.resume(phase)
    if saved is not None:
        result.restore(saved["result"])
    step = saved["step"] if saved else 0
    monitor.start(phase, settings.steps, step)
    if saved is None or "stack" in saved:
        stack = _Stack(model, loss, data, settings, saved["stack"] if saved else None)
        step = _improve(stack, result, settings, phase, monitor)
        monitor.keep(phase, {"step": step, "result": result.state()})
    with torch.no_grad():
        for name, p in model.parameters.items():
            p.copy_(result.parameters[name])
    model.fit = Fit(result.step, result.loss)
    monitor.finish(phase, step, result.diverged_at)


def _improve(stack: _Stack[Model], result: _Result, settings: Supervised, phase: str, monitor: Monitor) -> int:
    """Train until every seed has stopped improving; what is kept of them goes into `result`. How many steps it took."""
    if stack.step == 0:
        monitor.record(phase, 0, {"validation_loss": stack.best.loss}, stack.model)
    while stack.step < settings.steps and (improving := stack.best.looks_in_vain < settings.patience).any():
        if not improving.all():
            result.take(stack)
            stack = stack.of(improving)
        measures = stack.train(min(settings.validate_every, settings.steps - stack.step))
        monitor.record(phase, stack.step, measures, stack.model)
        monitor.keep(phase, {"step": stack.step, "stack": stack.state(), "result": result.state()})
    result.take(stack)
    return stack.step


class Best:
    """For each seed the weights of its smallest validation loss so far, step 0 included.

    Attributes:
        parameters: the weights.
        loss: the validation loss, (S,).
        step: the step it was seen at, (S,).
        looks_in_vain: how many looks since then brought no smaller one, (S,).
    """

    def __init__(self, parameters: Parameters, loss: torch.Tensor) -> None:
        self.parameters = {name: p.detach().clone() for name, p in parameters.items()}
        self.loss = loss
        self.step = torch.zeros_like(loss, dtype=torch.long)
        self.looks_in_vain = torch.zeros_like(self.step)

    def look(self, step: int, loss: torch.Tensor, parameters: Parameters) -> None:
        """Take over the weights of the seeds that have improved."""
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.step = torch.where(better, step, self.step)
        for name, p in parameters.items():
            chosen = better.view(-1, *[1] * (p.dim() - 1))
            self.parameters[name] = torch.where(chosen, p.detach(), self.parameters[name])
        self.looks_in_vain = torch.where(better, 0, self.looks_in_vain + 1)

    def state(self) -> State:
        """All that the next look depends on, tensors by reference."""
        return dict(vars(self))

    def restore(self, state: State) -> None:
        """Go on from a state."""
        vars(self).update(state)


class _Stack(Generic[Model]):
    """The seeds that still improve, trained together: row i of every tensor is of the seed at `places[i]` of all."""

    def __init__(
        self,
        everyone: Model,
        loss: PairLoss[Model],
        data: PreferenceData,
        settings: Supervised,
        state: State | None = None,
    ) -> None:
        self.places = torch.arange(len(everyone.env.seeds)) if state is None else state["places"]
        self.model = everyone.of(self.places)
        self._whole = everyone, loss, data, settings
        self._loss, data = loss, data.of(self.places)
        self._validation = [part.by_feature() for part in data.validation.split(_LOOKED_AT_AT_ONCE)]
        self.optimiser, self.step = Optimiser(self.model.parameters, settings), 0
        if state is None:
            self.best = Best(self.model.parameters, self._validation_loss())
        else:
            self.step = state["step"]
            self.optimiser.restore(state["optimiser"])
            self.best = Best(self.model.parameters, state["best"]["loss"])
            self.best.restore(state["best"])
        self._batches = minibatches(data.train, self.model.env.streams, settings, first_step=self.step)

    def of(self, kept: torch.Tensor) -> _Stack[Model]:
        """The stack of some of these seeds, True in `kept`, (S,)."""
        state = map_tensors(self.state(), lambda rows: rows[kept.to(rows.device)] if rows.dim() else rows)
        return _Stack(*self._whole, state)

    def train(self, n_steps: int) -> dict[str, torch.Tensor]:
        """Take steps, then look at the validation pairs; measures of each seed, (S,)."""
        steps = []
        for batch in itertools.islice(self._batches, n_steps):
            losses = self._loss(self.model, batch).mean(1)
            self.optimiser.step(self.step, losses)
            steps.append(losses.detach())
            self.step += 1
        training_losses = torch.stack(steps)
        self.optimiser.note_divergence(self.step, training_losses)
        current = self._validation_loss()
        self.best.look(self.step, current, self.model.parameters)
        measures = {"training_loss": training_losses.mean(0), "validation_loss": current}
        return measures | {"best_validation_loss": self.best.loss}

    def _validation_loss(self) -> torch.Tensor:
        """Mean loss over the validation pairs for each seed, without gradients, (S,)."""
        with torch.no_grad():
            return torch.cat([self._loss(self.model, part) for part in self._validation], 1).mean(1)

    def state(self) -> State:
        """All that the next step depends on, a row for each seed, tensors by reference."""
        parts = {"optimiser": self.optimiser.state(), "best": self.best.state()}
        return {"places": self.places, "step": self.step, **parts}


class _Result:
    """What was kept of each seed, (S, ...), written when it leaves the stack."""

    def __init__(self, model: StackedModel) -> None:
        self.parameters = {name: p.detach().clone() for name, p in model.parameters.items()}
        zeros = torch.zeros(len(model.env.seeds), device=model.env.device)
        self.loss, self.step, self.diverged_at = zeros, zeros.long(), zeros.long()

    def take(self, stack: _Stack[Model]) -> None:
        """Keep the best of the seeds of a stack, as far as they have come."""
        best = stack.best
        kept = self.parameters | {"loss": self.loss, "step": self.step, "diverged_at": self.diverged_at}
        news = best.parameters | {"loss": best.loss, "step": best.step, "diverged_at": stack.optimiser.diverged_at}
        for name, rows in kept.items():
            rows[stack.places] = news[name]

    def state(self) -> State:
        """All of it, tensors by reference."""
        return dict(vars(self))

    def restore(self, state: State) -> None:
        """Go on from a state."""
        vars(self).update(state)


def minibatches(
    pairs: Preferences, streams: Streams, settings: Supervised, first_step: int = 0
) -> Iterator[Preferences]:
    """The batches of steps `first_step` to `settings.steps`.

    Each epoch is shuffled anew for each seed and drops its incomplete last batch.
    """
    size = min(settings.batch_size, len(pairs))
    batches_in_epoch = len(pairs) // size
    first_rows = torch.arange(len(pairs.prompts), device=pairs.prompts.device)[:, None] * len(pairs)
    shuffled_epoch = -1
    for step in range(first_step, settings.steps):
        epoch, batch = divmod(step, batches_in_epoch)
        if epoch != shuffled_epoch:
            order, shuffled_epoch = streams.permutation("minibatches", len(pairs), epoch), epoch
            shuffled = pairs.rows((first_rows + order).flatten())
        yield shuffled[batch * size : (batch + 1) * size]
