"""The two commands, train and plot: what the user typed, checked, run, and answered on the screen."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alignsim.claims import problems_of
from alignsim.config.command_line import FOR_THE_WHOLE_SWEEP, CommandLine, checked_command_line, conf_dir, plain_values
from alignsim.config.load import TrainConfig, load
from alignsim.config.problems import ConfigurationError, Problem, check
from alignsim.config.settings import PlotSettings
from alignsim.jobs import Job, Report
from alignsim.launch import taking_part
from alignsim.registry import register, registry_of
from alignsim.sweep import Sweep


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as clusters do: it stops as at Ctrl-C."""


def train() -> None:
    """Train what the command line says: `python scripts/train.py --help`."""
    # libgomp's threads wait busily: two processes on the same cores then slow each other down fiftyfold
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with _errors_told(), _stopped_by_sigterm():
        line = checked_command_line(sys.argv[1:], "train", load)
        command = shlex.join(["train", *sys.argv[1:]])
        sweep = Sweep(command, line.multirun)
        if line.runs:
            _plan(sweep, line)
            if line.jobs[0].config.run.dry_run:
                sweep.dry_run()
                return
            _register_claims(line, command)
        gave_up = False
        try:
            if not line.runs or not sweep.jobs or sweep.skip_finished():
                _in_hydra("train", line.arguments, sweep)
        except Exception as error:
            if line.planned or not sweep.ledger.reports:
                raise
            gave_up = True
            print(f"the sweeper gave up: {error}", file=sys.stderr)
        finally:
            sweep.close()
            if line.multirun and sweep.ledger.reports:
                print(sweep.ledger.table(best=not sweep.jobs), flush=True)
        if sweep.ledger.has_failed or gave_up:
            sys.exit(1)


def _plan(sweep: Sweep, line: CommandLine) -> None:
    """What is known beforehand of the jobs of a command."""
    jobs = {tuple(job.overrides): job_of(job.config, job.choices, job.overrides) for job in line.jobs}
    if line.planned:
        _check_claims(list(jobs.values()), line)
    sweep.plan(jobs, line.planned)
    if not line.planned and line.jobs[0].config.run.dry_run:
        problem = Problem("dry_run", True, "cannot tell: this sweeper chooses its conditions as it goes")
        raise ConfigurationError([problem])


def _check_claims(jobs: Sequence[Job], line: CommandLine) -> None:
    """Refuse claims that could not be judged; where the user trains a part of what a preset sweeps, only say so."""
    claims = jobs[0].config.run.claims
    if problems := problems_of(claims, [job.values for job in jobs]) if claims else []:
        if not line.narrowed:
            raise ConfigurationError(problems)
        print(f"claims cannot all be judged from these conditions alone: {'; '.join(map(str, problems))}")


def _register_claims(line: CommandLine, command: str) -> None:
    """Write down what is predicted of each study, before anything is trained."""
    studies = {Path(job.config.run.output_dir, job.config.run.study): job.config.run for job in line.jobs}
    for folder, run in studies.items():
        if run.claims or run.question:
            for told in register(folder, run.question, run.claims, run.seeds.count, command):
                print(told)


def job_of(config: TrainConfig, choices: Mapping[str, str], overrides: Sequence[str], root: Path = Path()) -> Job:
    """The job that a checked configuration describes.

    Args:
        config: the configuration.
        choices: the chosen option of each group.
        overrides: what the command line says of this job.
        root: the folder that `output_dir` is relative to.
    """
    method, env = (choices[group].replace("/", "-") for group in ("method", "env"))
    key = tuple(override for override in overrides if not override.lstrip("+~").startswith("hydra"))
    changes = {change.partition("=")[0]: change for change in (override.lstrip("+") for override in key)}.values()
    return Job(config, method, env, key, tuple(change for change in changes if _tells_jobs_apart(change)), root)


def _tells_jobs_apart(change: str) -> bool:
    """Whether people want to see an override beside the names of the method and the environment."""
    key = change.partition("=")[0]
    return key not in ("method", "env", "checkpoint_every") and key.partition(".")[0] not in FOR_THE_WHOLE_SWEEP


def _in_hydra(name: str, arguments: list[str], sweep: Sweep) -> None:
    """Let Hydra run the jobs of a sweep, or show what it was asked for."""
    worker = sweep.worker  # alone: launchers pickle the function below with whatever it mentions

    def run(values: DictConfig) -> Report:
        settings = HydraConfig.get()
        started_in = Path(settings.runtime.cwd)
        root = Path() if started_in == Path.cwd() else started_in
        choices = {str(group): str(option) for group, option in settings.runtime.choices.items()}
        return worker.run(job_of(load(plain_values(values)), choices, settings.overrides.task, root))

    with taking_part(sweep):
        _hydra_main(name, arguments, run)


def _hydra_main(name: str, arguments: list[str], task: Callable[[DictConfig], object]) -> None:
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and they are told here
    sys.argv[1:] = arguments
    hydra.main(config_path=str(conf_dir()), config_name=name, version_base="1.3")(task)()


def plot() -> None:
    """Draw a study: `python scripts/plot.py --help`."""
    with _errors_told():
        _hydra_main("plot", checked_command_line(sys.argv[1:], "plot", existing_study).arguments, _plot_study)


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
    """Draw and summarise a study."""
    from alignsim.report import report

    settings = plain_values(values)
    changed = [f"{key}={value}" for key, value in settings.items() if value != getattr(PlotSettings(), key)]
    if not report(existing_study(settings), shlex.join(["plot", *changed])):
        sys.exit(1)
