"""The conditions of one command: what is finished is not launched, failures stop nothing, a table tells at the end.

Hydra's launchers run the jobs, one after another here or many at once elsewhere; what each did comes back as a
`Report`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from alignsim.jobs import Job, Report
from alignsim.results.states import JobState, Prospect

#: Seconds between two looks at the folders of jobs that run in other processes.
FOLLOW_EVERY = 0.5

#: How many skipped conditions the last table names one by one; all are named when they are skipped.
SKIPPED_IN_TABLE = 20


@dataclass
class Sweep:
    """The jobs of one command, and how they went.

    A copy in another process (a launcher's) knows how to run a job, but not about the others.

    Attributes:
        command: what the user typed.
        multirun: False for a command that is a single job.
        fail_fast: start no job after one has failed.
        common: the changes that all jobs share; they are told once.
        jobs: by their overrides, Hydra's too; empty where a sweeper decides them as it goes.
        remaining: the overrides of the jobs that had not finished before.
        reports: of the jobs that are over, by their keys.
        to_run: how many jobs are launched, 0 where that is not known.
        started: how many of them have been.
        here: whether this is the process of the command.
        wait: for another process that trains the same condition; else its job is put off.
        threads: CPU threads of a job, None for as many as torch likes.
        stop_file: exists once a job has failed and no other is to be started.
    """

    command: str
    multirun: bool = True
    fail_fast: bool = False
    common: frozenset[str] = frozenset()
    jobs: dict[tuple[str, ...], Job] = field(default_factory=dict)
    remaining: list[tuple[str, ...]] = field(default_factory=list)
    reports: dict[tuple[str, ...], Report] = field(default_factory=dict)
    to_run: int = 0
    started: int = 0
    here: bool = True
    wait: bool = True
    threads: int | None = None
    stop_file: Path | None = None
    began: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"jobs": {}, "remaining": [], "reports": {}, "here": False}

    def plan(self, jobs: dict[tuple[str, ...], Job], planned: bool) -> None:
        """The jobs of a command are known, or two possible ones: they are told apart by what they do not share."""
        if len(jobs) > 1:
            self.common = frozenset.intersection(*(frozenset(job.changes) for job in jobs.values()))
        if planned:
            self.jobs = {key: self.short(job) for key, job in jobs.items()}

    def short(self, job: Job) -> Job:
        """A job without the changes that it shares with all others."""
        changes = tuple(change for change in job.changes if change not in self.common)
        return dataclasses.replace(job, changes=changes)

    def run(self, job: Job) -> Report:
        """Run one job, in whatever process this is called."""
        job = self.short(job)
        self.started += 1
        if self.fail_fast and (self._count("failed") or (self.stop_file is not None and self.stop_file.exists())):
            report = job.report("not run", "a job before it failed")
        else:
            if self.here:
                print(f"{self._position()}{job.title}", flush=True)
            threads = job.config.run.threads or self.threads
            report = job.run(show=self.here, wait=self.wait, threads=threads, command=self.command)
        if self.here and report.state == "failed":
            print(f"  failed: {report.note}", file=sys.stderr, flush=True)
        elif self.here and report.state != "finished":
            print(f"  {report.state}: {report.note}", flush=True)
        if report.state == "failed" and self.fail_fast and self.stop_file is not None:
            with contextlib.suppress(OSError):
                self.stop_file.touch()
        if self.here:
            self.note(report)
        return report

    def note(self, report: Report) -> None:
        """Keep the report of a job, in place of an earlier one; that it is finished by then is no news."""
        before = self.reports.get(report.key)
        if before is None or before.state != "finished" or report.state != "skipped":
            self.reports[report.key] = report

    def skip_finished(self) -> list[tuple[str, ...]]:
        """Say which jobs had finished before, one line each; the others remain."""
        self.remaining = []
        self._print_header()
        for overrides, job in self.jobs.items():
            try:
                survey = job.survey()
            except OSError:  # running it will tell
                survey = None
            if survey is not None and survey.state == "finished":
                self.note(job.skipped(survey))
                print(f"finished before   {job.title}   {job.folder.path}")
            else:
                self.remaining.append(overrides)
        sys.stdout.flush()
        return self.remaining

    def _print_header(self) -> None:
        """Where the results of a sweep are, and what all its jobs share."""
        if self.multirun:
            folders = {job.folder.path.parent for job in self.jobs.values()}
            where = f"{folders.pop()}" if len(folders) == 1 else f"{len(folders)} studies"
            told = f", all with {' '.join(sorted(self.common))}" if self.common else ""
            print(f"{_counted({}, len(self.jobs))} in {where}{told}")

    def dry_run(self) -> None:
        """Say what running each job would do."""
        self._print_header()
        width = max(len(job.title) for job in self.jobs.values())
        counts = Counter[Prospect]()
        for job in self.jobs.values():
            try:
                state, words = job.prospect()
            except OSError as error:
                state, words = "failed", f"cannot be read: {error}"
            counts[state] += 1
            print(f"{state:<9} {job.title:<{width}}   {words}")
        print(f"dry run of {_counted(counts, len(self.jobs))}; nothing was done")

    def _count(self, state: JobState) -> int:
        return sum(report.state == state for report in self.reports.values())

    def _position(self) -> str:
        """Where a sweep is, such as `[3 of 8 · 1 finished · 1 failed · about 40 s left]  `."""
        if not self.multirun:
            return ""
        number = f"{self.started} of {self.to_run}" if self.to_run else f"{self.started}"
        states: tuple[JobState, ...] = ("finished", "skipped", "failed")
        parts = [number, *(f"{self._count(state)} {state}" for state in states if self._count(state))]
        trained = [report.seconds for report in self.reports.values() if report.state in ("finished", "failed")]
        if trained and self.to_run:
            each = sum(trained) / len(trained)
            parts.append(f"about {duration(each * (self.to_run - self.started + 1))} left")
        return f"[{' · '.join(parts)}]  "

    def table(self) -> str:
        """What finished, what was skipped, what failed and why."""
        reports = list(self.reports.values())
        counts = Counter(report.state for report in reports)
        order: list[JobState] = ["finished", "skipped", "busy", "not run", "failed"]
        shown = [r for r in reports if r.state != "skipped" or counts["skipped"] <= SKIPPED_IN_TABLE]
        shown.sort(key=lambda report: order.index(report.state))
        width = max((len(report.title) for report in shown), default=0)
        lines = [f"{_counted(counts, len(reports))}, in {duration(time.monotonic() - self.began)}"]
        for report in shown:
            told = report.note or duration(report.seconds)
            lines.append(f"  {report.state:<9} {report.title:<{width}}   {report.name}   {told}")
        if len(shown) < len(reports):
            lines.append(f"  skipped   {counts['skipped']} conditions that had finished before")
        if not self.jobs and (found := [report for report in reports if math.isfinite(report.regret)]):
            best = min(found, key=lambda report: report.regret)
            lines.append(f"smallest mean regret {best.regret:.4f}: {best.title}   {best.name}")
        if counts["failed"] or counts["not run"]:
            lines.append("the same command again tries these again and leaves what is finished")
        return "\n".join(lines)

    def close(self) -> None:
        """Leave nothing behind that only this command needed."""
        if self.stop_file is not None:
            self.stop_file.unlink(missing_ok=True)

    @property
    def has_failed(self) -> bool:
        """Whether any job failed or could not be run."""
        return self._count("failed") + self._count("not run") > 0


def _counted(counts: Mapping[Prospect, int] | Mapping[JobState, int], total: int) -> str:
    """Such as `3 conditions: 2 finished, 1 failed`."""
    parts = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{total} condition{'s' * (total != 1)}" + (f": {parts}" if parts else "")


def duration(seconds: float) -> str:
    """A time that people can read.

    >>> duration(3725)
    '1 h 2 min'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def taking_part(sweep: Sweep) -> Iterator[None]:
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
        sweep = self._sweep
        assert self.launcher is not None
        sweep.to_run, sweep.wait = len(sweep.remaining), False
        self.launcher.launch(sweep.remaining, initial_job_idx=0)
        busy = {report.key for report in sweep.reports.values() if report.state == "busy"}
        if busy:
            sweep.started, sweep.wait = sweep.started - len(busy), True
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
        sweep, settings = self._sweep, self._settings
        jobs = [sweep.jobs[key] for key in map(tuple, job_overrides) if key in sweep.jobs]
        sweep.threads = threads_of_a_job(settings.launcher, len(job_overrides))
        sweep.to_run = sweep.to_run or int(settings.sweeper.get("n_trials") or 0)
        if sweep.fail_fast and sweep.stop_file is None:
            sweep.stop_file = Path(settings.sweep.dir).absolute() / ".locks" / f"stop-{uuid.uuid4().hex}"
            sweep.stop_file.parent.mkdir(parents=True, exist_ok=True)
        unknown = [JobReturn(overrides=overrides) for overrides in job_overrides]
        here = str(settings.launcher._target_).endswith(".BasicLauncher")
        returns: Sequence[JobReturn] = unknown
        try:
            with contextlib.nullcontext() if here else _following(sweep, jobs):
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
        if not isinstance(report, Report):  # the job broke before or after it was one
            report = self._found_out(overrides, report)
        self._sweep.note(report)
        failed = report.state in ("failed", "not run") or not math.isfinite(report.regret)
        outcome: Any = RuntimeError(report.note or "seeds diverged") if failed else report.regret
        status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        return dataclasses.replace(given, status=status, _return_value=outcome)

    def _found_out(self, overrides: Sequence[str], error: object) -> Report:
        """What became of a job that did not report: its folder may tell."""
        job = self._sweep.jobs.get(tuple(overrides))
        note = f"{type(error).__name__}: {error}".replace("\n", " ")[:200] if error else "stopped"
        state: JobState = "failed" if error else "not run"
        if job is None:
            return Report(tuple(overrides), "?", " ".join(overrides), state, note)
        survey = job.survey()
        if survey.state == "finished":
            return job.report("finished", regret=survey.regret)
        if state == "failed" and survey.state != "failed" and not job.folder.is_open:
            state = "not run"  # it had not begun when the others were lost
        return job.report(state, survey.note if survey.state == "failed" else note)


@contextlib.contextmanager
def _following(sweep: Sweep, jobs: Sequence[Job]) -> Iterator[None]:
    """Say which of the jobs in other processes are over, as their folders tell."""
    over, began, running = threading.Event(), time.time(), list(jobs)

    def look() -> None:
        for job in list(running):
            state = job.folder.state_since(began)
            if job.key in sweep.reports:  # it ran in this process after all
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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    target = str(launcher.get("_target_", ""))
    if "joblib" in target:
        asked = int(launcher.n_jobs)
        at_once = asked if asked > 0 else max(1, cores + 1 + asked)
        return max(1, cores // min(at_once, jobs))
    if "submitit" in target:
        asked = int(launcher.get("cpus_per_task") or 0)
        return asked or (max(1, cores // jobs) if "Local" in target else None)
    if "ray" in target:
        return max(1, int(launcher.ray.remote.get("num_cpus") or 1))
    return None
