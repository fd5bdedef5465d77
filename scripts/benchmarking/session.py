"""Asking for what is to be measured: each row from a fresh process, all rows of a section, their ratios."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from subprocess import PIPE, Popen
from typing import Any

from alignsim.config.schema import Seeds
from scripts.benchmarking import comparison
from scripts.benchmarking.comparison import FailedError
from scripts.benchmarking.growth import Point, points
from scripts.benchmarking.spread import Spread

#: Where `scripts` is found.
ROOT = Path(__file__).resolve().parents[2]

#: A row or a section of the report, as it goes into JSON.
Row = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """How everything is measured.

    Attributes:
        device: where, as torch names it.
        threads: CPU threads, None for as many as torch likes.
        repetitions: of every time.
        seconds: about how long a repetition takes, at least.
        tell: hears what is being measured.
    """

    device: str
    threads: int | None
    repetitions: int
    seconds: float
    tell: Callable[[str], object]

    def ask(self, kind: str, **task: Any) -> Row:
        """What a fresh process measures.

        Raises:
            FailedError: it could not.
        """
        shown = {name: value for name, value in task.items() if name in ("work", "seeds", "axis", "value")}
        self.tell("   ".join([kind.replace("_", " "), *(f"{name}={value}" for name, value in shown.items())]))
        settings = {name: value for name, value in vars(self).items() if name != "tell"}
        command = [sys.executable, "-m", "scripts.benchmarking.worker", json.dumps({"kind": kind, **settings, **task})]
        with Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as process:
            output, errors = process.communicate()
        if process.returncode != 0:
            last = errors.strip().splitlines()[-1:] or [f"it ended with code {process.returncode}"]
            raise FailedError(f"{kind} {task}: {last[0]}")
        answer: Row = json.loads(output)
        return answer

    def steps(self, works: Sequence[str], seed_counts: Sequence[int]) -> list[Row]:
        """Every kind of work at every number of seeds, with its ratio to the plain way on one seed."""
        rows = []
        for work in works:
            plain = self.ask("plain", work=work)
            for seeds in seed_counts:
                row = {"work": work, "seeds": seeds, **self.ask("ours", work=work, seeds=seeds)}
                row |= {"plain": plain, "times_plain": _times(row, plain)}
                if work == "rl":
                    straight = self.ask("stacked_rl", seeds=seeds)
                    row |= {"stacked": straight, "times_stacked": _times(row, straight)}
                rows.append(row)
        return rows

    def comparison(self, plain_seeds: int) -> Row:
        """The default comparison: the command with all its seeds, the plain way with some, in proportion."""
        self.tell(f"the command: train {' '.join(comparison.COMMAND)}")
        seeds = Seeds().count
        seconds, values = comparison.ours(seeds, self.device, self.threads, self.repetitions, plain_seeds)
        plain = self.ask("plain_comparison", seeds=plain_seeds)
        spread, plain_seconds = Spread.from_values(seconds), seeds * mean(plain["seconds"])
        return {
            "command": " ".join(("train", *comparison.COMMAND)),
            "seeds": seeds,
            "seconds": asdict(spread),
            "values": values,
            "plain_seeds": plain_seeds,
            "plain_seconds": plain_seconds,
            "plain_seconds_of_seeds": plain["seconds"],
            "plain_threads": plain["threads"],
            "plain_values": plain["values"],
            "times_plain": plain_seconds / spread.median,
        }

    def growth(self) -> list[Row]:
        """Every point of every axis."""
        return [self._grown(point) for point in points()]

    def _grown(self, point: Point) -> Row:
        named = {"axis": point.axis, "value": point.value, "work": point.work}
        answer = self.ask("growth", seeds=point.seeds, sizes=asdict(point.sizes), **named)
        spread = answer.pop("seconds_per_step")
        return {**named, "seeds": point.seeds, **{f"seconds_per_step_{k}": v for k, v in spread.items()}, **answer}


def _times(ours: Row, others: Row) -> float:
    """How many times the seed-steps per second of others, from medians."""
    return float(ours["seed_steps_per_second"]["median"] / others["seed_steps_per_second"]["median"])
