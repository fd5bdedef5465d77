"""What a method is to the rest of alignsim: it gets a task, trains, and hands back what is to be measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alignsim._lazy import torch
from alignsim.config.schema import Component
from alignsim.envs.base import Environment
from alignsim.envs.pairs import PreferenceData
from alignsim.models.base import FitSummary, StackedModel
from alignsim.models.config import ModelConfig
from alignsim.models.policy import Policy
from alignsim.models.reward import RewardModel

#: What a stage needs to go on later: nested dictionaries and lists of tensors and numbers.
State = dict[str, Any]


class Monitor:
    """Hears how training goes, and remembers it. This one stays silent and forgets; subclasses do more.

    Every stage of a method has a `stage`, a name that no other stage of the method has.
    """

    def load_state(self, stage: str) -> State | None:
        """The state in which a stage was last kept; None where it starts afresh."""
        return None

    def start(self, stage: str, steps: int, done: int) -> None:
        """A stage of at most `steps` steps begins; `done` of them were taken before it was resumed."""

    def record(self, stage: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """After `step` steps of a stage: the model that it trains, and measures of each of its seeds, (S,).

        Seeds that have stopped improving are in it no more.
        """

    def save_state(self, stage: str, state: State) -> None:
        """The stage can go on from here: whoever wants to resume it later keeps a copy of its state.

        `step` in it says how many steps were taken.
        """

    def finish(self, stage: str, step: int, diverged_at: torch.Tensor) -> None:
        """The stage ended after `step` steps; `diverged_at` as in `StackedAdamW`."""


@dataclass(frozen=True)
class TrainingInputs:
    """What every method is given: the same world, pairs, models and beta for the same seed."""

    env: Environment
    data: PreferenceData
    model: ModelConfig
    beta: float
    monitor: Monitor


@dataclass(frozen=True)
class TrainingResult:
    """What a method hands back.

    Attributes:
        policy: the result.
        fit: how the stage that learned from the pairs went; None for methods that have none.
        scorer: the reward that was learned, explicit or implicit, up to a function of the prompt:
            (S, B, D), (S, B, K, T) -> (S, B, K).
        reward_model: for methods that have one.
    """

    policy: Policy
    fit: FitSummary | None
    scorer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    reward_model: RewardModel | None = None


class Method(Component, ABC):
    """A method is a frozen dataclass: its fields are its configuration, `train` is what it does."""

    @abstractmethod
    def train(self, task: TrainingInputs) -> TrainingResult:
        """Train on every seed of the task at once."""


def map_tensors(state: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A state of the same form with every tensor changed."""
    if isinstance(state, torch.Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: map_tensors(value, change) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [map_tensors(value, change) for value in state]
    return state


def fitted(model: StackedModel) -> FitSummary:
    """The fit of a model that was fitted to pairs."""
    assert model.fit is not None, "the model was never fitted to pairs"
    return model.fit
