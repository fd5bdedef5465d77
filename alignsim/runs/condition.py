"""Running conditions: a method in an environment on all its seeds, measured, as tidy tables. No files here."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from alignsim._lazy import torch
from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.evaluation.measures import DIVERGED, measure
from alignsim.evaluation.value import normalized_value, policy_value, reference_value
from alignsim.methods.base import Method, Monitor, State, Task, Trained, map_tensors
from alignsim.methods.dpo import DPO
from alignsim.methods.rlhf import RLHF
from alignsim.models.base import StackedModel
from alignsim.models.config import ModelConfig
from alignsim.models.policy import PolicyModel

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Condition:
    """A method in an environment: all that its results depend on but the seeds.

    Attributes:
        method: what is trained.
        env: where, stacked over the seeds to train, on the device to train on.
        model: the networks.
        beta: weight of the KL term, above 0.
        evaluation: how the result is measured.
    """

    method: Method
    env: Environment
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    beta: float = 0.5
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What running a condition gives.

    Attributes:
        trained: the models.
        results: one row for each seed: `seed`, every measure of `alignsim.evaluation.measures.MEASURES`, and the
            columns `DIVERGED`.
        history: the training curves, one row for each phase, step and seed.
    """

    trained: Trained
    results: pd.DataFrame
    history: pd.DataFrame

    def weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """The parameters of every trained model, on the CPU; a policy that is no network has none."""
        models = {"policy": self.trained.policy, "reward_model": self.trained.reward_model}
        return {
            name: {key: p.detach().cpu() for key, p in model.parameters.items()}
            for name, model in models.items()
            if isinstance(model, StackedModel)
        }


class Checkpoint(Protocol):
    """Where a run keeps what it needs to go on after it was stopped at any moment."""

    def load(self) -> State | None:
        """What was saved last; None where there is nothing to go on from."""

    def save(self, state: State) -> None:
        """Replace what was saved, whole or not at all; `at` in it says in words how far it goes."""


def run_condition(
    condition: Condition,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: float = 10.0,
) -> Outcome:
    """Train and measure a condition on every seed of its environment at once.

    Args:
        condition: what to run.
        monitor: hears how training goes.
        checkpoint: where to go on from, and where to save to: then a run that is stopped and started again gives,
            bit for bit on the same machine, what it would have given in one go.
        checkpoint_every: seconds between two saves, 0 for every time that is possible.
    """
    import pandas as pd

    env, beta, evaluation = condition.env, condition.beta, condition.evaluation
    recorder = Recorder(env, beta, evaluation, monitor or Monitor(), checkpoint, checkpoint_every)
    try:
        trained = condition.method.train(Task(env, env.preference_data(), condition.model, beta, recorder))
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what is to be told
            recorder.save()
        raise
    measures = measure(trained, env, beta, evaluation)
    columns = {name: values.cpu().numpy() for name, values in measures.items()}
    results = pd.DataFrame({"seed": env.seeds, **columns, **recorder.diverged()})
    return Outcome(trained, results, recorder.history())


def run_experiment(
    env_with_gap: Environment,
    env_without_gap: Environment,
    num_iterations: int = 5,
    methods: Mapping[str, Method] | None = None,
) -> pd.DataFrame:
    """Train methods in both environments on the same seeds.

    Args:
        env_with_gap: generating is harder than verifying here.
        env_without_gap: and is not here.
        num_iterations: how many seeds: 0, 1, ..., whatever seeds the environments were made with.
        methods: by the name they get in the table; `rlhf` and `dpo` with their default settings if not given.

    Returns:
        One row for each environment (`gap`, `no_gap`), method and seed, with every measure of
        `alignsim.evaluation.measures.MEASURES` and the columns `DIVERGED`.

    Raises:
        ValueError: `num_iterations` is below 1.
    """
    import pandas as pd

    if num_iterations < 1:
        raise ValueError(f"num_iterations={num_iterations}: must be at least 1")
    tables = []
    for env_name, env in (("gap", env_with_gap), ("no_gap", env_without_gap)):
        stacked = dataclasses.replace(env, seeds=tuple(range(num_iterations)))
        for method_name, method in (methods or {"rlhf": RLHF(), "dpo": DPO()}).items():
            results = run_condition(Condition(method, stacked)).results
            results.insert(0, "method", method_name)
            results.insert(1, "env", env_name)
            tables.append(results)
    return pd.concat(tables, ignore_index=True)


class Recorder(Monitor):
    """Keeps the training curves and what is needed to go on, measures the policy's true value now and then.

    What it hears is passed on to another monitor.
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
        self._place = {seed: i for i, seed in enumerate(env.seeds)}
        self._next_value_at, self._last_step = 0, 0
        self._diverged_at: dict[str, torch.Tensor] = {}
        self._checkpoint, self._checkpoint_every, self._saved_at = checkpoint, checkpoint_every, time.monotonic()
        self._kept: State | None = None
        saved = checkpoint.load() if checkpoint else None
        self._stages: dict[str, State] = {}
        if saved is not None:
            self._stages = map_tensors(saved["stages"], lambda tensor: tensor.to(env.device))
            self._rows = [(phase, step, tuple(seeds), row) for phase, step, seeds, row in saved["rows"]]
            self._next_value_at = saved["next_value_at"]

    def resume(self, phase: str) -> State | None:
        """The state in which a stage was last kept, here or by the run that this one goes on from."""
        stage = self._stages.get(phase)
        return stage and map_tensors(stage, torch.Tensor.clone)

    def start(self, phase: str, steps: int, done: int) -> None:
        """A stage begins: its first record gets a true value, and that of its last possible step."""
        self._last_step = steps
        if done == 0:
            self._next_value_at = 0
        self._monitor.start(phase, steps, done)

    def record(self, phase: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """Keep the measures of each seed; every `curve_every` steps and at the last also a policy's true value."""
        row = dict(measures)
        if isinstance(model, PolicyModel) and (step >= self._next_value_at or step == self._last_step):
            self._next_value_at = step + self._evaluation.curve_every
            there = [self._place[seed] for seed in model.env.seeds]
            value = policy_value(model, self._beta, self._prompts[there], self._evaluation)
            row |= {"true_reward": value.reward, "true_kl": value.kl, "value": value.value}
            if self._optimum is not None:
                row["normalized_value"] = normalized_value(value.value, self._reference[there], self._optimum[there])
        self._rows.append((phase, step, model.env.seeds, row))
        self._monitor.record(phase, step, measures, model)

    def keep(self, phase: str, state: State) -> None:
        """Keep a copy of a stage's state, and save it where that is due."""
        if self._checkpoint is None:
            return
        self._stages[phase] = map_tensors(state, torch.Tensor.clone)
        at, rows = f"step {state['step']} of {phase}", len(self._rows)
        self._kept = {"at": at, "stages": dict(self._stages), "rows": rows, "next_value_at": self._next_value_at}
        if time.monotonic() - self._saved_at >= self._checkpoint_every:
            self.save()

    def save(self) -> None:
        """Save the last kept states, with the curves up to there."""
        if self._checkpoint is None or self._kept is None:
            return
        state = self._kept | {"rows": self._rows[: self._kept["rows"]]}
        self._checkpoint.save(map_tensors(state, torch.Tensor.cpu))
        self._saved_at = time.monotonic()

    def finish(self, phase: str, step: int, diverged_at: torch.Tensor) -> None:
        """The stage is over."""
        self._diverged_at[phase] = diverged_at
        self._monitor.finish(phase, step, diverged_at)

    def diverged(self) -> dict[str, list[Any]]:
        """The columns `DIVERGED`: whether each seed's training diverged, in which phase first, after which step."""
        found: list[tuple[str, int] | None] = [None] * len(self._env.seeds)
        for phase, diverged_at in self._diverged_at.items():
            for i, step in enumerate(diverged_at.tolist()):
                found[i] = found[i] or ((phase, step) if step else None)
        columns = [[at is not None, *(at or ("", ""))] for at in found]
        return dict(zip(DIVERGED, map(list, zip(*columns, strict=True)), strict=True))

    def history(self) -> pd.DataFrame:
        """Tidy curves: phase, step, seed and a column for each measure, empty where it was not taken."""
        import pandas as pd

        tables: list[dict[str, Any]] = [
            {"phase": phase, "step": step, "seed": seeds} | {name: values.cpu().numpy() for name, values in row.items()}
            for phase, step, seeds, row in self._rows
        ]
        empty = pd.DataFrame(columns=["phase", "step", "seed"])
        return pd.concat([pd.DataFrame(table) for table in tables] or [empty], ignore_index=True)
