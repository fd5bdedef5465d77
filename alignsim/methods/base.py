"""The interface of a method: it gets the inputs of training, trains, and returns the models that are measured."""

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

#: What a stage needs to be resumed: nested dictionaries and lists of tensors and numbers.
State = dict[str, Any]


class Monitor:
    """Gets the progress and the states of training. This class ignores them; subclasses report and save.

    `stage` is the name of a stage of training; no other stage of the same method has it.
    """

    def load_state(self, stage: str) -> State | None:
        """The last saved state of a stage; None where there is none and the stage starts anew."""
        return None

    def start(self, stage: str, steps: int, done: int) -> None:
        """A stage of at most `steps` steps begins, of which `done` were made before it was resumed."""

    def record(self, stage: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """Report measures after `step` steps of a stage.

        Args:
            stage: its name.
            step: the number of steps so far.
            measures: values for each seed of the model, (S,), by name.
            model: what the stage trains, without the seeds that have stopped improving.
        """

    def save_state(self, stage: str, state: State) -> None:
        """Offer a state from which the stage can be resumed. A subclass that saves it has to copy it.

        Args:
            stage: its name.
            state: the state; its `step` is the number of steps so far.
        """

    def finish(self, stage: str, step: int, diverged_at: torch.Tensor) -> None:
        """The stage ended after `step` steps; `diverged_at` as in `StackedAdamW`."""


@dataclass(frozen=True)
class TrainingInputs:
    """The inputs of every method: for the same seed the same world, pairs, initial models and beta.

    Attributes:
        env: the world, stacked over its seeds.
        data: the preference pairs.
        model: the configuration of policy and reward model.
        beta: weight of the KL term, above 0.
        monitor: gets the progress and the states of each stage.
    """

    env: Environment
    data: PreferenceData
    model: ModelConfig
    beta: float
    monitor: Monitor


@dataclass(frozen=True)
class TrainingResult:
    """The result of training a method.

    Attributes:
        policy: the trained policy.
        fit: the summary of the fit to the pairs; None for methods that are not fitted to them.
        scorer: the reward that was learned, explicit or implicit, up to a function of the prompt:
            (S, B, D), (S, B, K, T) -> (S, B, K).
        reward_model: the learned reward model; None for methods without one.
    """

    policy: Policy
    fit: FitSummary | None
    scorer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    reward_model: RewardModel | None = None


class Method(Component, ABC):
    """A method is a frozen dataclass whose fields are its configuration; `train` runs it."""

    @abstractmethod
    def train(self, inputs: TrainingInputs) -> TrainingResult:
        """Train on every seed of the environment at once."""


def map_tensors(state: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A state of the same structure in which `change` was applied to every tensor."""
    if isinstance(state, torch.Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: map_tensors(value, change) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [map_tensors(value, change) for value in state]
    return state


def fitted(model: StackedModel) -> FitSummary:
    """The summary of the fit of a model, which must have been fitted to pairs."""
    assert model.fit is not None, "the model was never fitted to pairs"
    return model.fit
