"""The one loop that fits a model to preference pairs: reward models and direct preference methods alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.envs.base import PreferenceData, Preferences
from alignsim.lazy import torch
from alignsim.methods.base import Monitor
from alignsim.methods.optimiser import Optimisation, Optimiser
from alignsim.models.base import Fit, StackedModel
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
    best = {name: p.detach().clone() for name, p in model.parameters.items()}
    best_loss = validation_loss(loss, data.validation)
    best_step = torch.zeros_like(best_loss, dtype=torch.long)
    looks_in_vain = torch.zeros_like(best_step)
    running, steps_run = torch.zeros_like(best_loss), 0
    optimiser = Optimiser(model.parameters, settings)
    policy = model if isinstance(model, PolicyModel) else None
    monitor.start(phase, settings.steps)
    monitor.record(phase, 0, {"validation_loss": best_loss}, policy)
    step = 0
    for step, batch in enumerate(minibatches(data.train, model.env.streams, settings), start=1):
        losses = loss(batch).mean(1)
        optimiser.step(step - 1, losses)
        running, steps_run = running + losses.detach(), steps_run + 1
        if step % settings.validate_every and step < settings.steps:
            continue
        current = validation_loss(loss, data.validation)
        still_improving = looks_in_vain < settings.patience
        better = still_improving & (current < best_loss)
        best_loss = torch.where(better, current, best_loss)
        best_step = torch.where(better, step, best_step)
        for name, p in model.parameters.items():
            best[name] = torch.where(better.view(-1, *[1] * (p.dim() - 1)), p.detach(), best[name])
        looks_in_vain = torch.where(better, 0, looks_in_vain + still_improving)
        measures = {
            "training_loss": running / steps_run,
            "validation_loss": current,
            "best_validation_loss": best_loss,
        }
        monitor.record(phase, step, measures, policy)
        running, steps_run = torch.zeros_like(best_loss), 0
        if bool((looks_in_vain >= settings.patience).all()):
            break
    optimiser.close()
    model.parameters = best
    model.fit = Fit(best_step, best_loss)
    monitor.finish(phase, step)


def validation_loss(loss: PairLoss, pairs: Preferences) -> torch.Tensor:
    """Mean loss over pairs for each seed, without gradients, (S,)."""
    with torch.no_grad():
        return loss(pairs).mean(1)


def minibatches(pairs: Preferences, streams: Streams, settings: Supervised) -> Iterator[Preferences]:
    """`settings.steps` batches; each epoch is shuffled anew for each seed and drops its incomplete last batch."""
    size = min(settings.batch_size, len(pairs))
    batches_in_epoch = len(pairs) // size
    seeds = torch.arange(pairs.prompts.shape[0], device=pairs.prompts.device)[:, None]
    for step in range(settings.steps):
        epoch, batch = divmod(step, batches_in_epoch)
        if batch == 0:
            order = streams.permutation("minibatches", len(pairs), epoch)
            shuffled = Preferences(pairs.prompts[seeds, order], pairs.responses[seeds, order])
        yield shuffled[batch * size : (batch + 1) * size]
