"""How the jobs of a command go: their results so far, where the command is among them, and how many came to what.

Which jobs there are is in `alignsim.runs.sweep`; the table at the end is printed by `alignsim.report.terminal`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from alignsim.runs.job import Job, JobResult
from alignsim.runs.storage.state import JobState, PlannedState
from alignsim.runs.text import duration


@dataclass
class SweepLog:
    """The results of the jobs of one command, kept in its process.

    Attributes:
        multirun: False for a command that is a single job, which has no place among others.
        results: of the jobs that are over, by their keys.
        to_run: how many jobs are launched, 0 where that is not known.
        started: how many of them have been.
        began: when, in seconds of `time.monotonic`.
    """

    multirun: bool = True
    results: dict[tuple[str, ...], JobResult] = field(default_factory=dict)
    to_run: int = 0
    started: int = 0
    began: float = field(default_factory=time.monotonic)

    def start(self, job: Job) -> None:
        """Say that a job starts in this process."""
        self.started += 1
        print(f"{self._position()}{job.title}", flush=True)

    def end(self, result: JobResult) -> None:
        """Say how a job in this process went, where its log does not, and note its result."""
        if result.state == "failed":
            print(f"  failed: {result.note}", file=sys.stderr, flush=True)
        elif result.state != "finished":
            print(f"  {result.state}: {result.note}", flush=True)
        self.note(result)

    def note(self, result: JobResult) -> None:
        """Note the result of a job, in place of an earlier one; that it is finished by then is no news."""
        before = self.results.get(result.key)
        if before is None or before.state != "finished" or result.state != "skipped":
            self.results[result.key] = result

    def count(self, state: JobState) -> int:
        """How many jobs came to a state."""
        return sum(result.state == state for result in self.results.values())

    @property
    def has_failed(self) -> bool:
        """Whether any job failed or could not be run."""
        return self.count("failed") + self.count("not run") > 0

    def _position(self) -> str:
        """Where a sweep is, such as `[3 of 8 · 1 finished · 1 failed · about 40 s left]  `."""
        if not self.multirun:
            return ""
        number = f"{self.started} of {self.to_run}" if self.to_run else f"{self.started}"
        states: tuple[JobState, ...] = ("finished", "skipped", "failed")
        parts = [number, *(f"{self.count(state)} {state}" for state in states if self.count(state))]
        trained = [result.seconds for result in self.results.values() if result.state in ("finished", "failed")]
        if trained and self.to_run:
            mean = sum(trained) / len(trained)
            parts.append(f"about {duration(mean * (self.to_run - self.started + 1))} left")
        return f"[{' · '.join(parts)}]  "


def tally(counts: Mapping[PlannedState, int] | Mapping[JobState, int], total: int) -> str:
    """Such as `3 conditions: 1 failed, 2 finished`."""
    parts = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{total} condition{'s' * (total != 1)}" + (f": {parts}" if parts else "")
