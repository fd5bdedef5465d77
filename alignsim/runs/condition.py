"""Trains and measures a condition, which is a method in an environment, on all its seeds; returns tables, no files."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from alignsim._lazy import torch
from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.evaluation.measures import measure
from alignsim.methods.base import Method, Monitor, TrainingInputs, TrainingResult
from alignsim.methods.dpo import DPO
from alignsim.methods.rlhf import RLHF
from alignsim.models.base import StackedModel
from alignsim.models.config import ModelConfig
from alignsim.runs.recorder import Checkpoint, Recorder

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Condition:
    """A method in an environment: all that its results depend on but the seeds.

    Attributes:
        method: what is trained.
        env: the environment, stacked over the seeds to train, on the device to train on.
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
    """The models and tables that running a condition gives.

    Attributes:
        trained: the models.
        results: one row for each seed: `seed`, every measure of `alignsim.evaluation.measures.MEASURES`, and the
            columns `DIVERGED`.
        history: the training curves, one row for each stage, step and seed.
    """

    trained: TrainingResult
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


def run_condition(
    condition: Condition,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: float = 10.0,
) -> Outcome:
    """Train and measure a condition on every seed of its environment at once.

    Args:
        condition: the condition to run.
        monitor: gets how training goes.
        checkpoint: where states are saved and resumed from. A run that is stopped and started again then gives, bit for
            bit on the same machine, the same results as an uninterrupted one.
        checkpoint_every: seconds between two saves; 0 saves whenever a stage offers a state.
    """
    import pandas as pd

    env, beta, evaluation = condition.env, condition.beta, condition.evaluation
    recorder = Recorder(env, beta, evaluation, monitor or Monitor(), checkpoint, checkpoint_every)
    try:
        trained = condition.method.train(TrainingInputs(env, env.preference_data(), condition.model, beta, recorder))
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
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
        env_with_gap: an environment in which generating is harder than verifying.
        env_without_gap: an environment in which it is not.
        num_iterations: the number of seeds, which are 0, 1, ..., whatever seeds the environments were made with.
        methods: the methods by their names in the table, by default `rlhf` and `dpo` with their default settings.

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
