"""How the jobs of a command go: their reports, where the command is among them, and the table at the end.

Which jobs there are is in `alignsim.runs.sweep`.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from alignsim.runs.job import Job, Report
from alignsim.runs.storage.state import JobState, PlannedState

#: How many skipped conditions the last table names one by one; all are named when they are skipped.
SKIPPED_IN_TABLE = 20


@dataclass
class Ledger:
    """The reports of the jobs of one command, kept in its process.

    Attributes:
        multirun: False for a command that is a single job, which has no place among others.
        reports: of the jobs that are over, by their keys.
        to_run: how many jobs are launched, 0 where that is not known.
        started: how many of them have been.
        began: when, in seconds of `time.monotonic`.
    """

    multirun: bool = True
    reports: dict[tuple[str, ...], Report] = field(default_factory=dict)
    to_run: int = 0
    started: int = 0
    began: float = field(default_factory=time.monotonic)

    def start(self, job: Job) -> None:
        """Say that a job starts in this process."""
        self.started += 1
        print(f"{self._position()}{job.title}", flush=True)

    def end(self, report: Report) -> None:
        """Say how a job in this process went, where its log does not, and keep its report."""
        if report.state == "failed":
            print(f"  failed: {report.note}", file=sys.stderr, flush=True)
        elif report.state != "finished":
            print(f"  {report.state}: {report.note}", flush=True)
        self.note(report)

    def note(self, report: Report) -> None:
        """Keep the report of a job, in place of an earlier one; that it is finished by then is no news."""
        before = self.reports.get(report.key)
        if before is None or before.state != "finished" or report.state != "skipped":
            self.reports[report.key] = report

    def count(self, state: JobState) -> int:
        """How many jobs came to a state."""
        return sum(report.state == state for report in self.reports.values())

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
        trained = [report.seconds for report in self.reports.values() if report.state in ("finished", "failed")]
        if trained and self.to_run:
            each = sum(trained) / len(trained)
            parts.append(f"about {duration(each * (self.to_run - self.started + 1))} left")
        return f"[{' · '.join(parts)}]  "

    def table(self, best: bool) -> str:
        """What finished, what was skipped, what failed and why.

        Args:
            best: name the condition of the smallest regret, which a search is for.
        """
        reports = list(self.reports.values())
        counts = Counter(report.state for report in reports)
        order: list[JobState] = ["finished", "skipped", "busy", "not run", "failed"]
        shown = [r for r in reports if r.state != "skipped" or counts["skipped"] <= SKIPPED_IN_TABLE]
        shown.sort(key=lambda report: order.index(report.state))
        width = max((len(report.title) for report in shown), default=0)
        lines = [f"{tally(counts, len(reports))}, in {duration(time.monotonic() - self.began)}"]
        for report in shown:
            told = report.note or duration(report.seconds)
            lines.append(f"  {report.state:<9} {report.title:<{width}}   {report.name}   {told}")
        if len(shown) < len(reports):
            lines.append(f"  skipped   {counts['skipped']} conditions that had finished before")
        if best and (found := [report for report in reports if math.isfinite(report.regret)]):
            least = min(found, key=lambda report: report.regret)
            lines.append(f"smallest mean regret {least.regret:.4f}: {least.title}   {least.name}")
        if counts["failed"] or counts["not run"]:
            lines.append("the same command again tries these again and leaves what is finished")
        return "\n".join(lines)


def tally(counts: Mapping[PlannedState, int] | Mapping[JobState, int], total: int) -> str:
    """Such as `3 conditions: 1 failed, 2 finished`."""
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
