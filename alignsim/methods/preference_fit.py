"""The one training loop that fits a model to preference pairs, a reward model or the policy of a direct method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.envs.rng import Streams
from alignsim.methods.base import Monitor, State, map_tensors
from alignsim.methods.optimizer import OptimizerConfig, StackedAdamW
from alignsim.models.base import FitSummary, StackedModel
from alignsim.models.network import Parameters

Model = TypeVar("Model", bound=StackedModel)

#: Function from a model and a batch of pairs to the loss of each pair, (S, B).
PairLoss = Callable[[Model, Preferences], "torch.Tensor"]

#: Pairs that are evaluated together without gradients: this bounds memory and stays in the cache.
PAIRS_AT_ONCE = 128


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PreferenceFitConfig(OptimizerConfig):
    """How a model is fitted to preference pairs.

    Attributes:
        batch_size: pairs in a step; all training pairs where there are fewer.
        validate_every: steps between two checks of the validation pairs.
        patience: checks without a smaller validation loss after which a seed has stopped improving.
    """

    steps: PositiveInt = yaml_default("method/fit/default", "steps")
    learning_rate: PositiveFloat = yaml_default("method/fit/default", "learning_rate")
    batch_size: PositiveInt = yaml_default("method/fit/default", "batch_size")
    validate_every: PositiveInt = yaml_default("method/fit/default", "validate_every")
    patience: PositiveInt = yaml_default("method/fit/default", "patience")


def fit_to_preferences(
    model: Model,
    loss: PairLoss[Model],
    data: PreferenceData,
    config: PreferenceFitConfig,
    *,
    stage: str,
    monitor: Monitor,
) -> None:
    """Minimize the mean loss over the training pairs; keep, for each seed, the weights of its best validation loss.

    A seed stops after `patience` checks in a row without a smaller validation loss. It then leaves the stack and costs
    nothing. The result of a seed does not depend on the other seeds.

    Args:
        model: its `parameters` and `fit` are set to the best weights, those of step 0 included.
        loss: the loss of each pair, (S, B), of a model (`model` with some of its seeds) and a batch of their pairs.
        data: training and validation pairs.
        config: steps, batches, learning rate, validation.
        stage: the name of the stage for the monitor.
        monitor: gets the training loss (mean since the last check) and the validation loss of the seeds in the stack.
    """
    final, saved = FinalWeights(model), monitor.load_state(stage)
    if saved is not None:
        final.restore(saved["final"])
    step = saved["step"] if saved else 0
    monitor.start(stage, config.steps, step)
    if saved is None or "active" in saved:  # the state of a finished stage has no active seeds
        active = ActiveSeeds(model, loss, data, config, saved["active"] if saved else None)
        step = _train(active, final, loss, config, stage, monitor)
        monitor.save_state(stage, {"step": step, "final": final.state()})
    with torch.no_grad():
        for name, p in model.parameters.items():
            p.copy_(final.parameters[name])
    model.fit = FitSummary(final.step, final.loss)
    monitor.finish(stage, step, final.diverged_at)


def _train(
    active: ActiveSeeds[Model],
    final: FinalWeights,
    loss: PairLoss[Model],
    config: PreferenceFitConfig,
    stage: str,
    monitor: Monitor,
) -> int:
    """Train until every seed has stopped; the best weights of each go into `final`. Returns the number of steps."""
    if active.step == 0:
        monitor.record(stage, 0, {"validation_loss": active.best.loss}, active.model)
    while active.step < config.steps and (improving := active.improving(config.patience)).any():
        # Seeds that have stopped improving leave the stack
        if not improving.all():
            final.update(active)
            active = active.select_seeds(improving)
        # Gradient steps up to the next check
        training_losses = []
        for step in range(active.step, min(active.step + config.validate_every, config.steps)):
            batch = active.minibatches.batch(step)
            batch_loss = loss(active.model, batch).mean(1)  # (S,)
            active.optimizer.step(step, batch_loss)
            training_losses.append(batch_loss.detach())
        # Validation, which updates the best weights
        measures = active.validate(torch.stack(training_losses))
        # Report and checkpoint
        monitor.record(stage, active.step, measures, active.model)
        state = {"step": active.step, "active": active.state(), "final": final.state()}
        monitor.save_state(stage, state)
    final.update(active)
    return active.step


class BestCheckpoint:
    """For each seed the weights of its smallest validation loss so far, step 0 included.

    Attributes:
        parameters: the weights.
        loss: the validation loss, (S,).
        step: the step at which it was measured, (S,).
        checks_without_improvement: how many checks since then brought no smaller one, (S,).
    """

    def __init__(self, parameters: Parameters, loss: torch.Tensor) -> None:
        self.parameters = {name: p.detach().clone() for name, p in parameters.items()}
        self.loss = loss
        self.step = torch.zeros_like(loss, dtype=torch.long)
        self.checks_without_improvement = torch.zeros_like(self.step)

    def update(self, step: int, loss: torch.Tensor, parameters: Parameters) -> None:
        """Store the weights of the seeds whose validation loss, (S,), is smaller than before."""
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.step = torch.where(better, step, self.step)
        for name, p in parameters.items():
            chosen = better.view(-1, *[1] * (p.dim() - 1))
            self.parameters[name] = torch.where(chosen, p.detach(), self.parameters[name])
        self.checks_without_improvement = torch.where(better, 0, self.checks_without_improvement + 1)

    def state(self) -> State:
        """Everything that the next update depends on, tensors by reference."""
        return dict(vars(self))

    def restore(self, state: State) -> None:
        """Resume from a state."""
        vars(self).update(state)


class ActiveSeeds(Generic[Model]):
    """The stack of seeds that still improve and are trained together.

    Row i of every tensor belongs to the seed at `seed_indices[i]` of all.

    Args:
        all_seeds: the model of all seeds; the stack trains copies of the rows of its parameters.
        loss: the loss of each pair of a batch, see `fit_to_preferences`.
        data: the pairs of all seeds.
        config: how the model is fitted.
        state: the state to resume from; None begins with all seeds at step 0.
    """

    def __init__(
        self,
        all_seeds: Model,
        loss: PairLoss[Model],
        data: PreferenceData,
        config: PreferenceFitConfig,
        state: State | None = None,
    ) -> None:
        self._all = all_seeds, loss, data, config
        self.seed_indices = torch.arange(len(all_seeds.env.seeds)) if state is None else state["seed_indices"]
        self.model, self._loss = all_seeds.select_seeds(self.seed_indices), loss
        data = data.select_seeds(self.seed_indices)
        self._validation = [part.to_feature_major() for part in data.validation.split(PAIRS_AT_ONCE)]
        self.minibatches = Minibatches(data.train, self.model.env.streams, config.batch_size)
        self.optimizer, self.step = StackedAdamW(self.model.parameters, config), 0
        if state is None:
            self.best = BestCheckpoint(self.model.parameters, self._validation_loss())
        else:
            self.step = state["step"]
            self.optimizer.restore(state["optimizer"])
            self.best = BestCheckpoint(self.model.parameters, state["best"]["loss"])
            self.best.restore(state["best"])

    def improving(self, patience: int) -> torch.Tensor:
        """Which seeds have improved within the last `patience` checks, (S,), bool."""
        return self.best.checks_without_improvement < patience

    def select_seeds(self, mask: torch.Tensor) -> ActiveSeeds[Model]:
        """A smaller stack of those of these seeds for which `mask`, (S,), is True."""
        state = map_tensors(self.state(), lambda values: values[mask.to(values.device)] if values.dim() else values)
        return ActiveSeeds(*self._all, state)

    def validate(self, training_losses: torch.Tensor) -> dict[str, torch.Tensor]:
        """Count the steps since the last check and check the validation pairs. Returns measures of each seed, (S,).

        Args:
            training_losses: losses of the steps since the last check, (steps, S).
        """
        self.step += len(training_losses)
        self.optimizer.note_divergence(self.step, training_losses)
        current = self._validation_loss()
        self.best.update(self.step, current, self.model.parameters)
        measures = {"training_loss": training_losses.mean(0), "validation_loss": current}
        return measures | {"best_validation_loss": self.best.loss}

    def _validation_loss(self) -> torch.Tensor:
        """Mean loss over the validation pairs for each seed, without gradients, (S,)."""
        with torch.no_grad():
            return torch.cat([self._loss(self.model, part) for part in self._validation], 1).mean(1)

    def state(self) -> State:
        """Everything that the next step depends on, a row for each seed, tensors by reference."""
        parts = {"optimizer": self.optimizer.state(), "best": self.best.state()}
        return {"seed_indices": self.seed_indices, "step": self.step, **parts}


class FinalWeights:
    """The best weights, loss and step of every seed, (S, ...), filled in when a seed leaves the stack."""

    def __init__(self, model: StackedModel) -> None:
        self.parameters = {name: p.detach().clone() for name, p in model.parameters.items()}
        zeros = torch.zeros(len(model.env.seeds), device=model.env.device)
        self.loss, self.step, self.diverged_at = zeros, zeros.long(), zeros.long()

    def update(self, active: ActiveSeeds[Model]) -> None:
        """Fill in the best weights so far of the seeds of a stack."""
        best = active.best
        rows = self.parameters | {"loss": self.loss, "step": self.step, "diverged_at": self.diverged_at}
        new_rows = best.parameters | {"loss": best.loss, "step": best.step, "diverged_at": active.optimizer.diverged_at}
        for name, values in rows.items():
            values[active.seed_indices] = new_rows[name]

    def state(self) -> State:
        """The weights, losses and steps, tensors by reference."""
        return dict(vars(self))

    def restore(self, state: State) -> None:
        """Resume from a state."""
        vars(self).update(state)


class Minibatches:
    """The batches of every step: each epoch is shuffled anew for each seed and drops its incomplete last batch.

    Args:
        pairs: the training pairs.
        streams: the random streams of the seeds.
        batch_size: pairs in a batch; all of them where there are fewer.
    """

    def __init__(self, pairs: Preferences, streams: Streams, batch_size: int) -> None:
        self._pairs, self._streams, self._size = pairs, streams, min(batch_size, len(pairs))
        self._first_rows = torch.arange(len(pairs.prompts), device=pairs.prompts.device)[:, None] * len(pairs)
        self._epoch, self._shuffled = -1, pairs

    def batch(self, step: int) -> Preferences:
        """The batch of a step, counted from 0; cheapest when steps are requested in order."""
        epoch, index = divmod(step, len(self._pairs) // self._size)
        if epoch != self._epoch:
            order = self._streams.permutation("minibatches", len(self._pairs), epoch)
            self._shuffled, self._epoch = self._pairs.select_rows((self._first_rows + order).flatten()), epoch
        return self._shuffled[index * self._size : (index + 1) * self._size]
