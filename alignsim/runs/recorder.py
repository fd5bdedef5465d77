"""Records the training of a condition: the training curves, and the state from which training can be resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from alignsim._lazy import torch
from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.evaluation.measures import DIVERGED
from alignsim.evaluation.value import normalized_value, policy_value, reference_value
from alignsim.methods.base import Monitor, State, map_tensors
from alignsim.models.base import StackedModel
from alignsim.models.policy import PolicyModel

if TYPE_CHECKING:
    import pandas as pd


class Checkpoint(Protocol):
    """The place where a run saves the state from which it is resumed after it was stopped."""

    def load(self) -> State | None:
        """The state that was saved last; None where there is none to resume from."""

    def save(self, state: State) -> None:
        """Replace the saved state, whole or not at all; its `at` says in words how far the training had come."""


class Recorder(Monitor):
    """Records the training curves and what is needed to resume, and measures the policy's true value now and then.

    Everything is passed on to another monitor.
    """

    def __init__(
        self,
        env: Environment,
        beta: float,
        evaluation: Evaluation,
        monitor: Monitor,
        checkpoint: Checkpoint | None = None,
        checkpoint_every: float = 10.0,
    ) -> None:
        self._env, self._beta, self._evaluation, self._monitor = env, beta, evaluation, monitor
        self._prompts = env.prompts("evaluation", evaluation.prompts)[:, : evaluation.curve_prompts]
        self._optimum = env.optimal_value(beta, self._prompts)
        self._reference = reference_value(env, self._prompts, evaluation)
        self._rows: list[tuple[str, int, tuple[int, ...], dict[str, torch.Tensor]]] = []
        self._index = {seed: i for i, seed in enumerate(env.seeds)}
        self._next_value_at, self._last_step = 0, 0
        self._diverged_at: dict[str, torch.Tensor] = {}
        self._checkpoint, self._checkpoint_every, self._saved_at = checkpoint, checkpoint_every, time.monotonic()
        self._latest: State | None = None
        saved = checkpoint.load() if checkpoint else None
        self._stages: dict[str, State] = {}
        if saved is not None:
            self._stages = map_tensors(saved["stages"], lambda tensor: tensor.to(env.device))
            self._rows = [(stage, step, tuple(seeds), row) for stage, step, seeds, row in saved["rows"]]
            self._next_value_at = saved["next_value_at"]

    def load_state(self, stage: str) -> State | None:
        """The state of a stage that was last saved, by this run or by the one that it resumes."""
        state = self._stages.get(stage)
        return state and map_tensors(state, torch.Tensor.clone)

    def start(self, stage: str, steps: int, done: int) -> None:
        """A stage begins. Its first record and that of its last possible step get a true value."""
        self._last_step = steps
        if done == 0:
            self._next_value_at = 0
        self._monitor.start(stage, steps, done)

    def record(self, stage: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """Record the measures of each seed; every `curve_every` steps and at the last also a policy's true value."""
        row = dict(measures)
        if isinstance(model, PolicyModel) and (step >= self._next_value_at or step == self._last_step):
            self._next_value_at = step + self._evaluation.curve_every
            indices = [self._index[seed] for seed in model.env.seeds]
            value = policy_value(model, self._beta, self._prompts[indices], self._evaluation)
            row |= {"true_reward": value.reward, "true_kl": value.kl, "value": value.value}
            if self._optimum is not None:
                row["normalized_value"] = normalized_value(
                    value.value, self._reference[indices], self._optimum[indices]
                )
        self._rows.append((stage, step, model.env.seeds, row))
        self._monitor.record(stage, step, measures, model)

    def save_state(self, stage: str, state: State) -> None:
        """Copy the state of a stage, and write it if `checkpoint_every` seconds have passed since the last time."""
        if self._checkpoint is None:
            return
        self._stages[stage] = map_tensors(state, torch.Tensor.clone)
        at, rows = f"step {state['step']} of {stage}", len(self._rows)
        self._latest = {"at": at, "stages": dict(self._stages), "rows": rows, "next_value_at": self._next_value_at}
        if time.monotonic() - self._saved_at >= self._checkpoint_every:
            self.save()

    def save(self) -> None:
        """Write the latest states with the curves up to them."""
        if self._checkpoint is None or self._latest is None:
            return
        state = self._latest | {"rows": self._rows[: self._latest["rows"]]}
        self._checkpoint.save(map_tensors(state, torch.Tensor.cpu))
        self._saved_at = time.monotonic()

    def finish(self, stage: str, step: int, diverged_at: torch.Tensor) -> None:
        """The stage is over."""
        self._diverged_at[stage] = diverged_at
        self._monitor.finish(stage, step, diverged_at)

    def diverged(self) -> dict[str, list[Any]]:
        """The columns `DIVERGED`: whether each seed's training diverged, in which stage first, after which step."""
        first: list[tuple[str, int] | None] = [None] * len(self._env.seeds)
        for stage, diverged_at in self._diverged_at.items():
            for i, step in enumerate(diverged_at.tolist()):
                first[i] = first[i] or ((stage, step) if step else None)
        columns = [[at is not None, *(at or ("", ""))] for at in first]
        return dict(zip(DIVERGED, map(list, zip(*columns, strict=True)), strict=True))

    def history(self) -> pd.DataFrame:
        """Tidy curves: stage, step, seed and a column for each measure, empty where it was not measured."""
        import pandas as pd

        tables: list[dict[str, Any]] = [
            {"stage": stage, "step": step, "seed": seeds} | {name: values.cpu().numpy() for name, values in row.items()}
            for stage, step, seeds, row in self._rows
        ]
        empty = pd.DataFrame(columns=["stage", "step", "seed"])
        return pd.concat([pd.DataFrame(table) for table in tables] or [empty], ignore_index=True)
