"""The two commands, train and plot: what the user typed, checked, run, and answered on the screen.

What takes long to import is imported when it is known to be needed: help and a bad key are answered before.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alignsim.cli.arguments import checked_command_line
from alignsim.cli.compose import config_store_shared, plain_values
from alignsim.config.checking import check
from alignsim.config.defaults import conf_dir
from alignsim.config.problems import ConfigurationError, Problem
from alignsim.config.settings import PlotSettings
from alignsim.runs.train_config import load


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as clusters do: it stops as at Ctrl-C."""


def train() -> None:
    """Train what the command line says: `python scripts/train.py --help`."""
    with _errors_told(), _stopped_by_sigterm(), config_store_shared():
        line = checked_command_line(sys.argv[1:], "train", load)
        if not line.runs:
            _in_hydra("train", line.arguments, _nothing)
            return
        from alignsim.cli.train import run_command  # with all that only those need who train

        command = shlex.join(["train", *sys.argv[1:]])
        if not run_command(line, command, partial(_in_hydra, "train", line.arguments)):
            sys.exit(1)


def _in_hydra(name: str, arguments: list[str], task: Callable[[DictConfig], object]) -> None:
    """Let Hydra run a task, or show what it was asked for."""

    def run(values: DictConfig) -> object:  # Hydra calls its jobs by the module of this function
        return task(values)

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and they are told here
    sys.argv[1:] = arguments
    hydra.main(config_path=str(conf_dir()), config_name=name, version_base="1.3")(run)()


def _nothing(values: DictConfig) -> None:
    """What is run where Hydra only shows something."""


def plot() -> None:
    """Draw a study: `python scripts/plot.py --help`."""
    with _errors_told(), config_store_shared():
        _in_hydra("plot", checked_command_line(sys.argv[1:], "plot", existing_study).arguments, _plot_study)


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
            from alignsim.analysis.claims.preregistration import registry_of

            registry_of(root / settings.study)  # refuses a damaged one before anything is drawn
            return root / settings.study
        folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        studies = [name for name in folders if not name.startswith(".")]
        there = f"{root} has {', '.join(studies)}" if studies else f"{root} has no studies yet"
        problems.append(Problem("study", settings.study, f"does not exist; {there}"))
    raise ConfigurationError(problems)


@contextlib.contextmanager
def _errors_told() -> Iterator[None]:
    """Bad input ends with exit code 2, files that cannot be read or written with 1, Ctrl-C with 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the locale has no such letter
    try:
        yield
    except (ConfigurationError, HydraException, OmegaConfBaseException) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"cannot read or write: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending already
        print("stopped; what is finished is kept, and the same command goes on from here", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plot_study(values: DictConfig) -> None:
    """Draw and summarize a study."""
    from alignsim.report.draw import report

    settings = plain_values(values)
    changed = [f"{key}={value}" for key, value in settings.items() if value != getattr(PlotSettings(), key)]
    with _errors_told():  # here already, because Hydra would add a line of its own
        folder = existing_study(settings)
        if not report(folder, shlex.join(["plot", *changed]), PlotSettings(**settings).baseline):
            sys.exit(1)
