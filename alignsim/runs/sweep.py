"""The jobs of one command: which there are, which remain, and what is done before and after each.

How Hydra's launchers get them is in `alignsim.cli.hydra_plugins`; how they went is in `alignsim.runs.sweep_log`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignsim.runs.job import Job, JobResult
from alignsim.runs.storage.state import PlannedState
from alignsim.runs.sweep_log import SweepLog, tally


@dataclass
class Worker:
    """What is done before and after each job of one command; launchers take copies of it into other processes.

    Attributes:
        command: what the user typed.
        log: gets the results; None in a copy, whose results the launcher returns.
        fail_fast: whether no job is started after one has failed.
        stop_file: exists once a job has failed and no other is to be started.
        common: the changes that all jobs share; they are shown once.
        wait: whether a job waits for another process that trains the same condition; else it is `busy`.
        threads: CPU threads of a job; None for all cores.
    """

    command: str
    log: SweepLog | None
    fail_fast: bool = False
    stop_file: Path | None = None
    common: frozenset[str] = frozenset()
    wait: bool = True
    threads: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"log": None}

    def without_common_changes(self, job: Job) -> Job:
        """The job without the changes that all jobs share, so that its title shows what is its own."""
        changes = tuple(change for change in job.changes if change not in self.common)
        return dataclasses.replace(job, changes=changes)

    def start(self, job: Job) -> JobResult | None:
        """Log that a job starts. Returns a result where it is not to be run because another one has failed."""
        if self._is_over():
            return job.result("not run", "a job before it failed")
        if self.log is not None:
            self.log.start(job)
        return None

    def end(self, result: JobResult) -> JobResult:
        """Note the result of a job, in whatever process it ran."""
        if result.state == "failed" and self.fail_fast and self.stop_file is not None:
            with contextlib.suppress(OSError):
                self.stop_file.touch()
        if self.log is not None:
            self.log.end(result)
        return result

    def _is_over(self) -> bool:
        """Whether a job has failed after which no other is to be started."""
        if not self.fail_fast:
            return False
        failed_here = self.log is not None and self.log.count("failed") > 0
        return failed_here or (self.stop_file is not None and self.stop_file.exists())


class Sweep:
    """The jobs of one command.

    Args:
        command: what the user typed.
        multirun: False for a command that is a single job.

    Attributes:
        log: how the jobs went.
        worker: runs them.
        jobs: by their overrides, Hydra's too; empty where a sweeper decides them as it goes.
        remaining: the overrides of the jobs that had not finished before.
    """

    def __init__(self, command: str, multirun: bool = True) -> None:
        self.log = SweepLog(multirun)
        self.worker = Worker(command, self.log)
        self.jobs: dict[tuple[str, ...], Job] = {}
        self.remaining: list[tuple[str, ...]] = []

    def plan(self, jobs: dict[tuple[str, ...], Job], planned: bool) -> None:
        """The jobs of a command are known, or two possible ones: their titles show what they do not share."""
        self.worker.fail_fast = next(iter(jobs.values())).config.run.fail_fast
        if len(jobs) > 1:
            self.worker.common = frozenset.intersection(*(frozenset(job.changes) for job in jobs.values()))
        if planned:
            self.jobs = {key: self.worker.without_common_changes(job) for key, job in jobs.items()}

    def skip_finished(self) -> list[tuple[str, ...]]:
        """Say which jobs had finished before, one line each; the others remain."""
        self.remaining = []
        self._print_header()
        for overrides, job in self.jobs.items():
            try:
                survey = job.survey()
            except OSError:  # running it will say so
                survey = None
            if survey is not None and survey.state == "finished":
                self.log.note(job.skipped(survey))
                print(f"finished before   {job.title}   {job.folder.path}")
            else:
                self.remaining.append(overrides)
        sys.stdout.flush()
        return self.remaining

    def plans(self) -> list[tuple[str, PlannedState, str]]:
        """For each job its title, the state that running it would meet, and more about that in words."""
        self._print_header()
        plans: list[tuple[str, PlannedState, str]] = []
        for job in self.jobs.values():
            try:
                plans.append((job.title, *job.planned_state()))
            except OSError as error:
                plans.append((job.title, "failed", f"cannot be read: {error}"))
        return plans

    def _print_header(self) -> None:
        """Where the results of a sweep are, and what all its jobs share."""
        if self.log.multirun:
            folders = {job.folder.path.parent for job in self.jobs.values()}
            where = f"{folders.pop()}" if len(folders) == 1 else f"{len(folders)} studies"
            shared = f", all with {' '.join(sorted(self.worker.common))}" if self.worker.common else ""
            print(f"{tally({}, len(self.jobs))} in {where}{shared}")

    def close(self) -> None:
        """Leave nothing behind that only this command needed."""
        if self.worker.stop_file is not None:
            self.worker.stop_file.unlink(missing_ok=True)
