"""Running conditions: a method in an environment on all its seeds, measured, as tidy tables. No files here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.evaluation.measures import measure
from alignsim.evaluation.value import policy_value
from alignsim.lazy import torch
from alignsim.methods.base import Method, Monitor, Task, Trained
from alignsim.methods.dpo import DPO
from alignsim.methods.rlhf import RLHF
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
        results: one row for each seed: `seed` and every measure of `alignsim.evaluation.measures.MEASURES`.
        history: the training curves, one row for each phase, step and seed.
    """

    trained: Trained
    results: pd.DataFrame
    history: pd.DataFrame

    def weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """The parameters of every trained model, on the CPU."""
        models = {"policy": self.trained.policy, "reward_model": self.trained.reward_model}
        return {
            name: {key: p.detach().cpu() for key, p in model.parameters.items()}
            for name, model in models.items()
            if model is not None
        }


def run_condition(condition: Condition, monitor: Monitor | None = None) -> Outcome:
    """Train and measure a condition on every seed of its environment at once.

    Args:
        condition: what to run.
        monitor: hears how training goes.
    """
    import pandas as pd

    env, beta, evaluation = condition.env, condition.beta, condition.evaluation
    recorder = Recorder(env, beta, evaluation, monitor or Monitor())
    task = Task(env, env.preferences(), condition.model, beta, recorder)
    trained = condition.method.train(task)
    measures = measure(trained, env, beta, evaluation)
    columns = {name: values.cpu().numpy() for name, values in measures.items()}
    results = pd.DataFrame({"seed": env.seeds, **columns})
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
        `alignsim.evaluation.measures.MEASURES`.

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
    """Keeps the training curves, adds the policy's true value now and then, and passes everything on."""

    def __init__(self, env: Environment, beta: float, evaluation: Evaluation, monitor: Monitor) -> None:
        self._env, self._beta, self._evaluation, self._monitor = env, beta, evaluation, monitor
        self._prompts = env.prompts("evaluation", evaluation.prompts)[:, : evaluation.curve_prompts]
        self._optimum = env.optimal_value(beta, self._prompts)
        self._rows: list[tuple[str, int, dict[str, torch.Tensor]]] = []
        self._next_value_at = 0

    def start(self, phase: str, steps: int) -> None:
        """A stage begins: its first record gets a true value."""
        self._next_value_at = 0
        self._monitor.start(phase, steps)

    def record(
        self, phase: str, step: int, measures: Mapping[str, torch.Tensor], policy: PolicyModel | None = None
    ) -> None:
        """Keep the measures of each seed; every `curve_every` steps also the true value of the policy."""
        row = dict(measures)
        if policy is not None and step >= self._next_value_at:
            self._next_value_at = step + self._evaluation.curve_every
            value = policy_value(policy, self._beta, self._prompts, self._evaluation)
            row |= {"true_reward": value.reward, "true_kl": value.kl, "value": value.value}
            if self._optimum is not None:
                row["normalized_value"] = value.value / self._optimum
        self._rows.append((phase, step, row))
        self._monitor.record(phase, step, measures, policy)

    def finish(self, phase: str, step: int) -> None:
        """The stage is over."""
        self._monitor.finish(phase, step)

    def history(self) -> pd.DataFrame:
        """Tidy curves: phase, step, seed and a column for each measure, empty where it was not taken."""
        import pandas as pd

        tables: list[dict[str, Any]] = [
            {"phase": phase, "step": step, "seed": self._env.seeds}
            | {name: values.cpu().numpy() for name, values in row.items()}
            for phase, step, row in self._rows
        ]
        empty = pd.DataFrame(columns=["phase", "step", "seed"])
        return pd.concat([pd.DataFrame(table) for table in tables] or [empty], ignore_index=True)
