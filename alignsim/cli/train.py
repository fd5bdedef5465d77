"""What `train` does with a checked command line: plan the jobs, register the claims, let Hydra run the jobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from alignsim.analysis.claims.conditions import problems_of
from alignsim.analysis.claims.preregistration import register
from alignsim.cli.arguments import CommandLine
from alignsim.cli.compose import plain_values
from alignsim.cli.hydra_compat import hydra_main
from alignsim.cli.hydra_plugins import SweepTask, hydra_arguments
from alignsim.cli.objections import FOR_THE_WHOLE_SWEEP, NAMED_BY
from alignsim.config.problems import ConfigurationError, Problem
from alignsim.report.terminal import dry_run_table, sweep_table
from alignsim.runs.job import Job, JobResult
from alignsim.runs.sweep import Sweep
from alignsim.runs.train_config import TrainConfig, load


def run_command(line: CommandLine, command: str) -> bool:
    """Train what a command line says, and print how it went.

    Args:
        line: the checked command line.
        command: what the user typed, for the record.

    Returns:
        Whether nothing failed.
    """
    sweep = Sweep(command, line.multirun)
    _plan(sweep, line)
    if line.jobs[0].config.run.dry_run:
        print(dry_run_table(sweep.plans()))
        return True
    _register_claims(line, command)
    gave_up = False
    try:
        if not sweep.jobs or sweep.skip_finished():
            plugins = hydra_arguments(sweep) if line.multirun else []
            hydra_main("train", [*line.arguments, *plugins], _RunJob(sweep))()
    except Exception as error:
        if line.planned or not sweep.log.results:
            raise
        gave_up = True
        print(f"the sweeper gave up: {error}", file=sys.stderr)
    finally:
        sweep.close()
        if line.multirun and sweep.log.results:
            print(sweep_table(sweep.log, best=not sweep.jobs), flush=True)
    return not (sweep.log.has_failed or gave_up)


class _RunJob(SweepTask):
    """Runs the job that Hydra has composed, in whatever process it is called.

    Args:
        sweep: the jobs of the command.
    """

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(sweep)
        # The folders of the checked conditions; a sweeper that chooses its jobs as it goes has none
        self._planned = {job.key: job.folder.path for job in sweep.jobs.values()}

    def __call__(self, values: DictConfig) -> JobResult:
        """Run the job of these values; it fails where they give another condition or study than was checked."""
        job, worker = _composed_job(values), self.worker
        only = next(iter(self._planned.values())) if len(self._planned) == 1 else job.folder.path
        planned = self._planned.get(job.key, only)
        job = worker.without_common_changes(job)
        if job.folder.path.parts[-2:] != planned.parts[-2:]:  # study, and condition
            now, before = (Path(*path.parts[-2:]) for path in (job.folder.path, planned))
            note = f"composed to {now}, but {before} was checked: did a YAML file, or the time in a value, change?"
            return worker.end(job.result("failed", note))
        if (result := worker.start(job)) is None:
            threads = job.config.run.threads or worker.threads
            result = job.run(show=worker.log is not None, wait=worker.wait, threads=threads, command=worker.command)
        return worker.end(result)


def _composed_job(values: DictConfig) -> Job:
    """The job that Hydra has composed."""
    settings = HydraConfig.get()
    started_in = Path(settings.runtime.cwd)
    root = Path() if started_in == Path.cwd() else started_in
    choices = {str(group): str(option) for group, option in settings.runtime.choices.items()}
    return job_of(load(plain_values(values)), choices, settings.overrides.task, root)


def _plan(sweep: Sweep, line: CommandLine) -> None:
    """Plan the jobs of the sweep, as far as they are known before they run.

    Raises:
        ConfigurationError: the claims of a planned sweep cannot be judged, or a dry run is of an unplanned one.
    """
    jobs = {tuple(job.overrides): job_of(job.config, job.choices, job.overrides) for job in line.jobs}
    if line.planned:
        _check_claims(list(jobs.values()), line)
    sweep.plan(jobs, line.planned)
    if not line.planned and line.jobs[0].config.run.dry_run:
        problem = Problem("dry_run", True, "cannot tell: this sweeper chooses its conditions as it goes")
        raise ConfigurationError([problem])


def _check_claims(jobs: Sequence[Job], line: CommandLine) -> None:
    """Refuse claims that could not be judged; where the user trains only a part of what a preset sweeps, print them."""
    claims = jobs[0].config.run.claims
    if problems := problems_of(claims, [job.values for job in jobs]) if claims else []:
        if not line.narrowed:
            raise ConfigurationError(problems)
        print(f"claims cannot all be judged from these conditions alone: {'; '.join(map(str, problems))}")


def _register_claims(line: CommandLine, command: str) -> None:
    """Register the claims of each study, before anything is trained."""
    studies = {Path(job.config.run.output_dir, job.config.run.study): job.config.run for job in line.jobs}
    for folder, run in studies.items():
        if run.claims or run.question:
            for message in register(folder, run.question, run.claims, run.seeds.count, command):
                print(message)


def job_of(config: TrainConfig, choices: Mapping[str, str], overrides: Sequence[str], root: Path = Path()) -> Job:
    """The job that a checked configuration describes.

    Args:
        config: the configuration.
        choices: the chosen option of each group.
        overrides: what the command line says of this job.
        root: the folder that `output_dir` is relative to.
    """
    method, env = (choices[group].replace("/", "-") for group in NAMED_BY)
    key = tuple(override for override in overrides if not override.lstrip("+~").startswith("hydra"))
    changes = {change.partition("=")[0]: change for change in (override.lstrip("+") for override in key)}.values()
    return Job(config, method, env, key, tuple(change for change in changes if _distinguishes_jobs(change)), root)


def _distinguishes_jobs(change: str) -> bool:
    """Whether an override is shown beside the names of the method and the environment."""
    key = change.partition("=")[0]
    return key not in ("method", "env", "checkpoint_every") and key.partition(".")[0] not in FOR_THE_WHOLE_SWEEP
