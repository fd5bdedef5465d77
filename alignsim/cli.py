"""The two commands, train and plot: what the user typed, checked, run, and answered on the screen."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alignsim.config.command_line import checked_arguments, conf_dir, plain_values
from alignsim.config.load import TrainConfig, load
from alignsim.config.problems import ConfigurationError, Problem, check
from alignsim.config.schema import PlotSettings

if TYPE_CHECKING:
    import pandas as pd

    from alignsim.experiment import Condition

#: Measures in the table at the end of a run; the others are in `results.csv`.
SHOWN = ("normalized_value", "regret", "statistical_regret", "computational_regret", "kl", "pair_accuracy")


def train() -> None:
    """Train what the command line says: `python scripts/train.py --help`."""
    _command("train", _train_one, load)


def plot() -> None:
    """Draw a study: `python scripts/plot.py --help`."""
    _command("plot", _plot_study, existing_study)


def existing_study(values: Mapping[str, Any]) -> Path:
    """The folder of the study that the plain values of `conf/plot.yaml` name.

    Raises:
        ConfigurationError: with every problem that was found; for an unknown study, with those that exist.
    """
    problems: list[Problem] = []
    settings = check(PlotSettings, values, "", problems)
    if settings is not None:
        root = Path(settings.output_dir)
        if (root / settings.study).is_dir():
            return root / settings.study
        studies = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        there = f"{root} has {', '.join(studies)}" if studies else f"{root} has no studies yet"
        problems.append(Problem("study", settings.study, f"does not exist; {there}"))
    raise ConfigurationError(problems)


def _command(
    name: str, task: Callable[[DictConfig], object], check_values: Callable[[Mapping[str, Any]], object]
) -> None:
    """Check the whole command line, then let Hydra run it. Bad input ends with exit code 2, Ctrl-C with 130."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and they are told here
    try:
        sys.argv[1:] = checked_arguments(sys.argv[1:], name, check_values)
        hydra.main(config_path=str(conf_dir()), config_name=name, version_base="1.3")(task)()
    except (ConfigurationError, HydraException, OmegaConfBaseException) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"cannot read or write: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nstopped; conditions that had finished before are kept", file=sys.stderr)
        sys.exit(130)


def _train_one(values: DictConfig) -> float:
    """Run one condition and write its folder; returns the mean regret, which Hydra's sweepers minimise."""
    config = load(plain_values(values))
    choices = HydraConfig.get().runtime.choices
    method, env = (str(choices[group]).replace("/", "-") for group in ("method", "env"))
    folder = Path(config.run.output_dir) / config.run.study / f"{method}-{env}-{config.hash}"
    changed = [override.lstrip("+") for override in HydraConfig.get().overrides.task]
    print(
        f"{method} · {env}", *(change for change in changed if "." in change.partition("=")[0]), sep="   ", flush=True
    )
    return train_condition(config, method, env, folder)


def train_condition(config: TrainConfig, method: str, env: str, path: Path) -> float:
    """Train and measure a condition, show how it goes, leave its results in a folder.

    Args:
        config: what to run.
        method: the method's name in tables and figures.
        env: the environment's name there.
        path: the folder, `outputs/<study>/<method>-<env>-<hash8>`.

    Returns:
        The mean regret over seeds.
    """
    from alignsim.experiment import run_condition
    from alignsim.progress import TerminalProgress
    from alignsim.results import RunFolder, flatten

    began = time.perf_counter()
    folder, seeds = RunFolder(path), config.run.seeds.all
    if folder.would_lose(seeds):
        regret = folder.mean_regret(seeds)
        print(f"  {path} holds these seeds and more: kept as it is; study=NAME trains them anew\n", flush=True)
        return regret
    condition = condition_of(config)
    folder.start(condition.env.device)
    try:
        outcome = run_condition(condition, TerminalProgress())
        results = outcome.results
        results.insert(0, "method", method)
        results.insert(1, "env", env)
        for key, value in flatten(config.identity).items():
            results[key] = value
        folder.finish(config.to_plain(), results, outcome.history, outcome.weights())
    except BaseException as error:
        folder.fail(error)
        raise
    print(results_table(results))
    print(f"  {path}   {time.perf_counter() - began:.1f} s\n", flush=True)
    return float(results["regret"].mean())


def condition_of(config: TrainConfig) -> Condition:
    """The condition that a configuration describes, on its seeds and device."""
    import torch

    from alignsim.experiment import Condition

    device = config.run.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    env = dataclasses.replace(config.env, seeds=tuple(config.run.seeds.all), device=device)
    return Condition(config.method, env, config.model, config.run.beta, config.run.evaluation)


def results_table(results: pd.DataFrame) -> str:
    """The main measures of a condition: mean over seeds and 95 % interval."""
    import numpy as np

    from alignsim.analysis import mean_interval

    count = f"{len(results)} seeds" if len(results) > 1 else "1 seed"
    lines = [f"  {'':<22}{'mean':>8}   95 % interval ({count})"]
    for name in SHOWN:
        finite = results[name][np.isfinite(results[name])]
        if len(finite):
            mean, low, high, n = mean_interval(finite)
            interval = f"[{low:.3f}, {high:.3f}]" if n > 1 else "one seed, no interval"
            lines.append(f"  {name:<22}{mean:>8.3f}   {interval}")
    diverged = int((~np.isfinite(results["value"])).sum())
    if diverged:
        lines.append(
            f"  {diverged} of {len(results)} seeds diverged: their value is not finite, the means leave them out"
        )
    return "\n".join(lines)


def _plot_study(values: DictConfig) -> None:
    """Draw and summarise a study."""
    from alignsim.report import report

    if not report(existing_study(plain_values(values))):
        sys.exit(1)
