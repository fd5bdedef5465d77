"""How the jobs of a sweep take part in Hydra: its launchers run them, only those that remain, and each reports.

Which jobs there are, and how one of them is run, is decided in `alignsim.runs.sweep`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from alignsim.runs.hardware import cores
from alignsim.runs.job import Job, JobResult
from alignsim.runs.storage.state import JobState
from alignsim.runs.sweep import Sweep
from alignsim.runs.sweep_log import SweepLog

#: Seconds between two looks at the folders of jobs that run in other processes.
FOLLOW_EVERY = 0.5


@contextlib.contextmanager
def hook_into_hydra(sweep: Sweep) -> Iterator[None]:
    """While Hydra runs a command: its launchers run the jobs of a sweep, and only what is to be run.

    Hydra has no hook around the jobs of a sweep; its sweepers, other packages' too, get their launcher here.
    """
    make_launcher, make_sweeper = Plugins.instantiate_launcher, Plugins.instantiate_sweeper

    def launcher(plugins: Plugins, **given: Any) -> Launcher:
        return _Launcher(make_launcher(plugins, **given), given["config"], sweep)

    def sweeper(plugins: Plugins, **given: Any) -> Sweeper:
        if not sweep.jobs:
            made = make_sweeper(plugins, **given)
            logging.getLogger("optuna").setLevel(logging.WARNING)  # what it tells is in the table
            return made
        planned = _PlannedSweeper(sweep)
        planned.setup(**given)
        return planned

    with _replaced(Plugins, "instantiate_launcher", launcher), _replaced(Plugins, "instantiate_sweeper", sweeper):
        yield


@contextlib.contextmanager
def _replaced(owner: type, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _PlannedSweeper(Sweeper):
    """Runs the jobs that are known beforehand, but for the finished ones."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Get a launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch what remains; what another process is training comes last, when it should be finished."""
        sweep, log = self._sweep, self._sweep.log
        assert self.launcher is not None
        log.to_run, sweep.worker.wait = len(sweep.remaining), False
        self.launcher.launch(sweep.remaining, initial_job_idx=0)
        busy = {report.key for report in log.results.values() if report.state == "busy"}
        if busy:
            log.started, sweep.worker.wait = log.started - len(busy), True
            again = [overrides for overrides in sweep.remaining if sweep.jobs[overrides].key in busy]
            self.launcher.launch(again, initial_job_idx=0)


class _Launcher(Launcher):
    """A launcher of Hydra's whose jobs report to a sweep."""

    def __init__(self, inner: Launcher, config: DictConfig, sweep: Sweep) -> None:
        self._inner, self._settings, self._sweep = inner, config.hydra, sweep

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: the launcher inside was set up when it was made."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs; what a sweeper gets back of each is its mean regret, or its failure."""
        sweep, settings, worker = self._sweep, self._settings, self._sweep.worker
        jobs = [sweep.jobs[key] for key in map(tuple, job_overrides) if key in sweep.jobs]
        worker.threads = threads_of_a_job(settings.launcher, len(job_overrides))
        sweep.log.to_run = sweep.log.to_run or int(settings.sweeper.get("n_trials") or 0)
        if worker.fail_fast and worker.stop_file is None:
            worker.stop_file = Path(settings.sweep.dir).absolute() / ".locks" / f"stop-{uuid.uuid4().hex}"
            worker.stop_file.parent.mkdir(parents=True, exist_ok=True)
        unknown = [JobReturn(overrides=overrides) for overrides in job_overrides]
        here = str(settings.launcher._target_).endswith(".BasicLauncher")
        returns: Sequence[JobReturn] = unknown
        try:
            with contextlib.nullcontext() if here else _following(sweep.log, jobs):
                returns = self._inner.launch(job_overrides, initial_job_idx)
        except Exception as error:  # a worker was killed, or the cluster gave up: what became of the jobs?
            returns = [dataclasses.replace(given, _return_value=error) for given in unknown]
        except KeyboardInterrupt:
            if not here:
                self._noted_all(job_overrides, unknown)
            raise
        return self._noted_all(job_overrides, returns)

    def _noted_all(self, jobs: Sequence[Sequence[str]], returns: Sequence[JobReturn]) -> list[JobReturn]:
        return [self._noted(overrides, given) for overrides, given in zip(jobs, returns, strict=True)]

    def _noted(self, overrides: Sequence[str], given: JobReturn) -> JobReturn:
        report = given._return_value
        if not isinstance(report, JobResult):  # the job broke before or after it was one
            report = self._found_out(overrides, report)
        self._sweep.log.note(report)
        failed = report.state in ("failed", "not run") or not math.isfinite(report.regret)
        outcome: Any = RuntimeError(report.note or "seeds diverged") if failed else report.regret
        status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        return dataclasses.replace(given, status=status, _return_value=outcome)

    def _found_out(self, overrides: Sequence[str], error: object) -> JobResult:
        """What became of a job that did not report: its folder may tell."""
        job = self._sweep.jobs.get(tuple(overrides))
        note = f"{type(error).__name__}: {error}".replace("\n", " ")[:200] if error else "stopped"
        state: JobState = "failed" if error else "not run"
        if job is None:
            return JobResult(tuple(overrides), "?", " ".join(overrides), state, note)
        survey = job.survey()
        if survey.state == "finished":
            return job.result("finished", regret=survey.regret)
        if state == "failed" and survey.state != "failed" and not job.folder.is_open:
            state = "not run"  # it had not begun when the others were lost
        return job.result(state, survey.note if survey.state == "failed" else note)


@contextlib.contextmanager
def _following(log: SweepLog, jobs: Sequence[Job]) -> Iterator[None]:
    """Say which of the jobs in other processes are over, as their folders tell."""
    over, began, running = threading.Event(), time.time(), list(jobs)

    def look() -> None:
        for job in list(running):
            state = job.folder.state_since(began)
            if job.key in log.results:  # it ran in this process after all
                running.remove(job)
            elif state in ("finished", "failed"):
                running.remove(job)
                print(f"[{len(jobs) - len(running)} of {len(jobs)}]  {state}   {job.title}", flush=True)

    def follow() -> None:
        while not over.wait(FOLLOW_EVERY):
            look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
        look()
    finally:
        over.set()
        thread.join()


def threads_of_a_job(launcher: DictConfig, jobs: int) -> int | None:
    """CPU threads for each job of a launcher, so that the jobs at once share the cores; None where there is one.

    Args:
        launcher: its part of Hydra's configuration.
        jobs: how many are launched.
    """
    target = str(launcher.get("_target_", ""))
    if "joblib" in target:
        asked = int(launcher.n_jobs)
        at_once = asked if asked > 0 else max(1, cores() + 1 + asked)
        return max(1, cores() // min(at_once, jobs))
    if "submitit" in target:
        asked = int(launcher.get("cpus_per_task") or 0)
        return asked or (max(1, cores() // jobs) if "Local" in target else None)
    if "ray" in target:
        return max(1, int(launcher.ray.remote.get("num_cpus") or 1))
    return None
