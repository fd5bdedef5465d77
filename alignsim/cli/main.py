"""The two commands, train and plot: each checks what the user typed, runs it, and ends with an exit code.

Modules that take long to import are imported when they are needed; help and a bad key need none of them.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alignsim.cli.arguments import checked_command_line
from alignsim.cli.compose import plain_values
from alignsim.cli.hydra_compat import hydra_main, share_config_store
from alignsim.config.checking import check
from alignsim.config.problems import ConfigurationError, OldKeyProblem, Problem
from alignsim.config.settings import PlotSettings
from alignsim.runs.train_config import load


class Terminated(KeyboardInterrupt):
    """The process got SIGTERM, as clusters send it; it stops as at Ctrl-C."""


def train() -> None:
    """The command `python scripts/train.py`: train the conditions of the command line."""
    with _errors_as_exit_codes(), _stopped_by_sigterm():
        if _has_migrated(sys.argv[1:]):
            return
        share_config_store()
        line = checked_command_line(sys.argv[1:], "train", load)
        if not line.runs:
            hydra_main("train", line.arguments, _do_nothing)()
            return
        from alignsim.cli.train import run_command  # imports everything that training needs

        command = shlex.join(["train", *sys.argv[1:]])
        if not run_command(line, command):
            sys.exit(1)


def _has_migrated(arguments: list[str]) -> bool:
    """Rewrite YAML files if the command asks for it. Returns whether it did; exits with 1 if it did a part."""
    if not any(argument.startswith("migrate=") for argument in arguments):
        return False
    from alignsim.cli.migrate import migrate

    if not migrate(arguments):
        sys.exit(1)
    return True


def _do_nothing(values: DictConfig) -> None:
    """The task of a command for which Hydra only prints help or a configuration."""


def plot() -> None:
    """The command `python scripts/plot.py`: judge and draw a study."""
    with _errors_as_exit_codes():
        share_config_store()
        line = checked_command_line(sys.argv[1:], "plot", existing_study)
        hydra_main("plot", line.arguments, _plot_study)()


def existing_study(values: Mapping[str, Any]) -> Path:
    """The folder of the study that the plain values of `conf/plot.yaml` name.

    Raises:
        ConfigurationError: with every problem; for an unknown study, with those that exist.
    """
    problems: list[Problem] = []
    settings = check(PlotSettings, values, "", problems)
    if settings is not None:
        root = Path(settings.output_dir)
        if (root / settings.study).is_dir():
            from alignsim.analysis.claims.preregistration import load_preregistration

            load_preregistration(root / settings.study)  # refuses a damaged one before anything is drawn
            return root / settings.study
        folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        studies = [name for name in folders if not name.startswith(".")]
        existing = f"{root} has {', '.join(studies)}" if studies else f"{root} has no studies yet"
        problems.append(Problem("study", settings.study, f"does not exist; {existing}"))
    raise ConfigurationError(problems)


@contextlib.contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Bad input ends with exit code 2, files that cannot be read or written with 1, Ctrl-C with 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the locale has no such letter
    try:
        yield
    except (ConfigurationError, HydraException, OmegaConfBaseException) as error:
        print(error, file=sys.stderr)
        if any(isinstance(problem, OldKeyProblem) for problem in getattr(error, "problems", ())):
            print("python scripts/train.py migrate=FILE gives the keys of a YAML file their new names", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"cannot read or write: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the ending
        print("stopped; what is finished is kept, and the same command goes on from here", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plot_study(values: DictConfig) -> None:
    """Draw and summarize a study."""
    from alignsim.report.draw import report_study

    settings = plain_values(values)
    changed = [f"{key}={value}" for key, value in settings.items() if value != getattr(PlotSettings(), key)]
    with _errors_as_exit_codes():  # inside Hydra too, which would add a line of its own to an error
        folder = existing_study(settings)
        if not report_study(folder, shlex.join(["plot", *changed]), PlotSettings(**settings).baseline):
            sys.exit(1)
