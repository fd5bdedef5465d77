"""Hydra's plug-ins for sweeps: a sweeper that runs only the jobs that remain, and a launcher whose jobs report.

`alignsim.runs.sweep` decides which jobs a sweep has and how one of them is run. Hydra builds these classes from its own
configuration, into which `SweepCallback` writes them once it is composed; the launcher that the user has chosen works
unchanged inside ours.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import math
import os
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from alignsim.cli.hydra_compat import PLUGIN_MODULE, register_plugins
from alignsim.config.defaults import conf_dir
from alignsim.runs.hardware import cores
from alignsim.runs.job import Job, JobResult
from alignsim.runs.storage.state import JobState
from alignsim.runs.sweep import Sweep
from alignsim.runs.sweep_log import SweepLog

#: Seconds after which the folders of jobs in other processes are read again.
FOLLOW_EVERY = 0.5


class SweepTask(ABC):
    """The function that Hydra calls for each job; it also brings the sweep to the plug-ins below.

    A copy in another process has the worker and no sweep.

    Args:
        sweep: the jobs of the command.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep: Sweep | None = sweep
        self.worker = sweep.worker

    @abstractmethod
    def __call__(self, values: DictConfig) -> JobResult:
        """Run the job that composes to these values."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"sweep": None}


def hydra_arguments(sweep: Sweep) -> list[str]:
    """Register the plug-ins, and return the overrides with which Hydra uses them for a sweep."""
    register_plugins(PlannedSweeper, ReportingLauncher)
    key = "++hydra.callbacks.alignsim"
    target = f"{SweepCallback.__module__}.{SweepCallback.__qualname__}"
    return [f"{key}._target_={target}", f"{key}.planned={str(bool(sweep.jobs)).lower()}"]


class SweepCallback(Callback):
    """Writes our sweeper and launcher into Hydra's configuration, around those that were chosen.

    Args:
        planned: whether the jobs are known beforehand; otherwise the chosen sweeper decides them as it goes.
    """

    def __init__(self, planned: bool) -> None:
        self._planned = planned

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Put our plug-ins around the chosen ones; called before Hydra builds them."""
        _wrap(config.hydra, "launcher", ReportingLauncher)
        if self._planned:
            _wrap(config.hydra, "sweeper", PlannedSweeper)


def _wrap(settings: DictConfig, part: str, plugin: type) -> None:
    """Replace a part of Hydra's configuration by a plug-in of ours that holds it as `inner`."""
    target = f"{plugin.__module__}.{plugin.__qualname__}"
    with read_write(settings), open_dict(settings):
        settings[part] = {"_target_": target, "_recursive_": False, "inner": settings[part]}


def _unwrapped(config: DictConfig, part: str) -> DictConfig:
    """Returns a copy of the configuration in which a part is the one that was chosen."""
    config = copy.deepcopy(config)
    settings = config.hydra
    with read_write(settings), open_dict(settings):
        settings[part] = settings[part].inner
    return config


class PlannedSweeper(Sweeper):
    """Runs the jobs that are known beforehand, but for the finished ones.

    Args:
        inner: the settings of the sweeper that was chosen, which has nothing to decide.
    """

    __module__ = PLUGIN_MODULE

    def __init__(self, inner: Any) -> None:
        """Hydra resolves `inner` to build this; `setup` gets it as it was composed."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Get the launcher."""
        self.hydra_context, self.config = hydra_context, _unwrapped(config, "sweeper")
        self._sweep = _sweep_of(task_function)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=self.config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch what remains; what another process is training comes last, when it should be finished."""
        sweep, log = self._sweep, self._sweep.log
        assert self.launcher is not None
        log.to_run, sweep.worker.wait = len(sweep.remaining), False
        self.launcher.launch(sweep.remaining, initial_job_idx=0)
        busy = {result.key for result in log.results.values() if result.state == "busy"}
        if busy:
            log.started, sweep.worker.wait = log.started - len(busy), True
            again = [overrides for overrides in sweep.remaining if sweep.jobs[overrides].key in busy]
            self.launcher.launch(again, initial_job_idx=0)


class ReportingLauncher(Launcher):
    """A launcher whose jobs report to the sweep; the launcher that was chosen runs them.

    Args:
        inner: the settings of that launcher.
    """

    __module__ = PLUGIN_MODULE

    def __init__(self, inner: Any) -> None:
        """Hydra resolves `inner` to build this; `setup` gets it as it was composed."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Get the launcher that was chosen."""
        config = _unwrapped(config, "launcher")
        self._settings, self._sweep = config.hydra, _sweep_of(task_function)
        self._inner = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        logging.getLogger("optuna").setLevel(logging.WARNING)  # what it says is in the table

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs; a sweeper gets back the mean regret of each, or its failure."""
        self._prepare_worker(len(job_overrides))
        unknown = [JobReturn(overrides=overrides) for overrides in job_overrides]
        jobs = [self._sweep.jobs[key] for key in map(tuple, job_overrides) if key in self._sweep.jobs]
        try:
            with contextlib.nullcontext() if self._in_this_process else _following(self._sweep.log, jobs):
                returns: Sequence[JobReturn] = self._inner.launch(job_overrides, initial_job_idx)
        except Exception as error:  # a worker was killed, or the cluster gave up
            returns = [dataclasses.replace(job, _return_value=error) for job in unknown]
        except KeyboardInterrupt:
            if not self._in_this_process:
                self._noted_all(job_overrides, unknown)
            raise
        return self._noted_all(job_overrides, returns)

    @property
    def _in_this_process(self) -> bool:
        return str(self._settings.launcher._target_).endswith(".BasicLauncher")

    def _prepare_worker(self, n_jobs: int) -> None:
        """Tell the worker what its jobs share: threads, and the file that stops them all."""
        sweep, settings, worker = self._sweep, self._settings, self._sweep.worker
        worker.threads = threads_of_a_job(settings.launcher, n_jobs)
        sweep.log.to_run = sweep.log.to_run or int(settings.sweeper.get("n_trials") or 0)
        if worker.fail_fast and worker.stop_file is None:
            worker.stop_file = Path(settings.sweep.dir).absolute() / ".locks" / f"stop-{uuid.uuid4().hex}"
            worker.stop_file.parent.mkdir(parents=True, exist_ok=True)
        if not self._in_this_process:
            _show_checkout()

    def _noted_all(self, jobs: Sequence[Sequence[str]], returns: Sequence[JobReturn]) -> list[JobReturn]:
        return [self._noted(overrides, returned) for overrides, returned in zip(jobs, returns, strict=True)]

    def _noted(self, overrides: Sequence[str], returned: JobReturn) -> JobReturn:
        """Note the result of a job; returns what the sweeper gets of it."""
        result = returned._return_value
        if not isinstance(result, JobResult):  # the job broke before or after it was one
            result = self._result_from_folder(overrides, result)
        self._sweep.log.note(result)
        failed = result.state in ("failed", "not run") or not math.isfinite(result.regret)
        outcome: Any = RuntimeError(result.note or "seeds diverged") if failed else result.regret
        status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        return dataclasses.replace(returned, status=status, _return_value=outcome)

    def _result_from_folder(self, overrides: Sequence[str], error: object) -> JobResult:
        """Returns what became of a job that did not report, as far as its folder shows."""
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


def _show_checkout() -> None:
    """Let the Python processes that a launcher starts import alignsim from this checkout, installed or not."""
    root = conf_dir().parent
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if (root / "alignsim").is_dir() and str(root) not in paths:  # a wheel is where they look anyway
        os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, paths)])


def _sweep_of(task_function: TaskFunction) -> Sweep:
    """Returns the sweep that the task function of this command carries."""
    sweep = cast(SweepTask, task_function).sweep
    assert sweep is not None, "sweepers and launchers are built in the process of the command"
    return sweep


@contextlib.contextmanager
def _following(log: SweepLog, jobs: Sequence[Job]) -> Iterator[None]:
    """Say which of the jobs in other processes are over, as their folders tell."""
    over, began, running = threading.Event(), time.time(), list(jobs)

    def check_folders() -> None:
        for job in list(running):
            state = job.folder.state_since(began)
            if job.key in log.results:  # it ran in this process after all
                running.remove(job)
            elif state in ("finished", "failed"):
                running.remove(job)
                print(f"[{len(jobs) - len(running)} of {len(jobs)}]  {state}   {job.title}", flush=True)

    def follow() -> None:
        while not over.wait(FOLLOW_EVERY):
            check_folders()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
        check_folders()
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
