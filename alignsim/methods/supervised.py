"""The one loop that fits a model to preference pairs: reward models and direct preference methods alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.envs.base import PreferenceData, Preferences
from alignsim.lazy import torch
from alignsim.methods.base import Monitor, State
from alignsim.methods.optimiser import Optimisation, Optimiser
from alignsim.models.base import Fit, StackedModel
from alignsim.models.made import Parameters
from alignsim.models.policy import PolicyModel
from alignsim.streams import Streams

#: The loss of each pair of a batch, (S, B), in nats.
PairLoss = Callable[[Preferences], "torch.Tensor"]


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
    model: StackedModel,
    loss: PairLoss,
    data: PreferenceData,
    settings: Supervised,
    *,
    phase: str,
    monitor: Monitor,
) -> None:
    """Minimise the mean loss over the training pairs; keep, for each seed, the weights of its best validation loss.

    A seed stops improving when `patience` looks in a row brought no smaller validation loss; what it does later does
    not count, so its result does not depend on the other seeds. The loop ends when every seed has stopped.

    Args:
        model: trained in place; its `parameters` and `fit` are set to the best found, step 0 included.
        loss: from a batch of pairs to the loss of each, computed with `model`.
        data: training and validation pairs.
        settings: steps, batches, learning rate, validation.
        phase: the stage's name for the monitor.
        monitor: hears the training loss (mean since the last look) and the validation loss.
    """
    optimiser = Optimiser(model.parameters, settings)
    best, step = Best(model.parameters, validation_loss(loss, data.validation)), 0
    policy = model if isinstance(model, PolicyModel) else None
    if (saved := monitor.resume(phase)) is not None:
        optimiser.restore(saved["optimiser"])
        best.restore(saved["best"])
        step = saved["step"]
    monitor.start(phase, settings.steps, step)
    if step == 0:
        monitor.record(phase, 0, {"validation_loss": best.loss}, policy)
    batches = minibatches(data.train, model.env.streams, settings, first_step=step)
    while step < settings.steps and best.may_improve(settings.patience):
        running, n_steps = torch.zeros_like(best.loss), min(settings.validate_every, settings.steps - step)
        for batch in itertools.islice(batches, n_steps):
            losses = loss(batch).mean(1)
            optimiser.step(step, losses)
            running, step = running + losses.detach(), step + 1
        optimiser.check_weights(step)
        current = validation_loss(loss, data.validation)
        best.look(step, current, model.parameters, settings.patience)
        measures = {"training_loss": running / n_steps, "validation_loss": current, "best_validation_loss": best.loss}
        monitor.record(phase, step, measures, policy)
        monitor.keep(phase, {"step": step, "optimiser": optimiser.state(), "best": best.state()})
    optimiser.close()
    model.parameters = best.parameters
    model.fit = Fit(best.step, best.loss)
    monitor.finish(phase, step, optimiser.diverged_at)


class Best:
    """For each seed the weights of its smallest validation loss so far, step 0 included.

    Attributes:
        parameters: the weights.
        loss: the validation loss, (S,).
        step: the step it was seen at, (S,).
        looks_in_vain: how many looks since then brought no smaller one, at most `patience`, (S,).
    """

    def __init__(self, parameters: Parameters, loss: torch.Tensor) -> None:
        self.parameters = {name: p.detach().clone() for name, p in parameters.items()}
        self.loss = loss
        self.step = torch.zeros_like(loss, dtype=torch.long)
        self.looks_in_vain = torch.zeros_like(self.step)

    def look(self, step: int, loss: torch.Tensor, parameters: Parameters, patience: int) -> None:
        """Take over the weights of the seeds that have improved and have not stopped before."""
        still_improving = self.looks_in_vain < patience
        better = still_improving & (loss < self.loss)
        self.loss = torch.where(better, loss, self.loss)
        self.step = torch.where(better, step, self.step)
        for name, p in parameters.items():
            chosen = better.view(-1, *[1] * (p.dim() - 1))
            self.parameters[name] = torch.where(chosen, p.detach(), self.parameters[name])
        self.looks_in_vain = torch.where(better, 0, self.looks_in_vain + still_improving)

    def may_improve(self, patience: int) -> bool:
        """Whether any seed has not stopped improving."""
        return bool((self.looks_in_vain < patience).any())

    def state(self) -> State:
        """All that the next look depends on, tensors by reference."""
        return dict(vars(self))

    def restore(self, state: State) -> None:
        """Go on from a state."""
        vars(self).update(state)


def validation_loss(loss: PairLoss, pairs: Preferences) -> torch.Tensor:
    """Mean loss over pairs for each seed, without gradients, (S,)."""
    with torch.no_grad():
        return loss(pairs).mean(1)


def minibatches(
    pairs: Preferences, streams: Streams, settings: Supervised, first_step: int = 0
) -> Iterator[Preferences]:
    """The batches of steps `first_step` to `settings.steps`.

    Each epoch is shuffled anew for each seed and drops its incomplete last batch.
    """
    size = min(settings.batch_size, len(pairs))
    batches_in_epoch = len(pairs) // size
    seeds = torch.arange(pairs.prompts.shape[0], device=pairs.prompts.device)[:, None]
    shuffled_epoch = -1
    for step in range(first_step, settings.steps):
        epoch, batch = divmod(step, batches_in_epoch)
        if epoch != shuffled_epoch:
            order, shuffled_epoch = streams.permutation("minibatches", len(pairs), epoch), epoch
            shuffled = Preferences(pairs.prompts[seeds, order], pairs.responses[seeds, order])
        yield shuffled[batch * size : (batch + 1) * size]
