"""Every table that is printed: verdicts, the summary, a search's best trials, the jobs of a sweep and of a dry run.

What is in them is computed elsewhere. Importing this module imports neither numpy nor pandas: `train` prints from here
before anything is trained.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from alignsim.analysis.claims.text import p_text, prediction
from alignsim.runs.storage.state import JobState, PlannedState
from alignsim.runs.sweep_log import SweepLog, tally
from alignsim.runs.text import counted, duration, format_table, three_decimals

if TYPE_CHECKING:
    import pandas as pd

    from alignsim.analysis.claims.verdicts import Verdict
    from alignsim.runs.job import JobResult

#: How many skipped conditions the table of a sweep lists one by one; all are listed when they are skipped.
MOST_SKIPPED = 20

#: How many rows of a summary are printed; `summary.csv` has all.
MOST_ROWS = 200

#: The order in which the table of a sweep lists its jobs: what needs attention stands last, nearest to the prompt.
_STATES: tuple[JobState, ...] = ("finished", "skipped", "busy", "not run", "failed")


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Returns a row for each verdict, and below it the reason where it is inconclusive and what else to know."""
    rows: list[tuple[str, ...] | str] = []
    for verdict in verdicts:
        p = verdict.p_against if verdict.outcome == "refuted" else verdict.p
        estimate = str(verdict.estimate) if verdict.estimate.n else "-"
        late = "" if verdict.record.registered_before_training else "registered after training began"
        numbers = (estimate, prediction(verdict.claim), p_text(p), seeds_behind(verdict), late)
        rows.append((verdict.outcome, verdict.name, *numbers))
        remarks = [verdict.why] * (verdict.outcome == "inconclusive") + list(verdict.notes)
        rows += [f"  {remark}" for remark in remarks]
    return format_table(rows, ("verdict", "claim", "estimate [95 %]", "predicted", "p", "seeds"))


def seeds_behind(verdict: Verdict) -> str:
    """Returns how many seeds a verdict rests on and how many it could not use, such as `14 seeds, 2 diverged`."""
    parts = [counted(verdict.seeds, "seed")]
    parts += [f"{verdict.diverged} diverged"] * (verdict.diverged > 0)
    return ", ".join(parts + [f"{verdict.missing} not in all conditions"] * (verdict.missing > 0))


def summary_table(table: pd.DataFrame) -> str:
    """Returns the first rows of a summary: what each condition is, its normalized value and the 95 % interval.

    Args:
        table: as `alignsim.analysis.summary.summarize` returns it.
    """
    columns = list(table.columns)
    keys = columns[: columns.index("diverged")]  # method, env, what varied, seeds
    shown = [*keys, *(["diverged"] if table.diverged.any() else [])]
    rows = []
    for row in table.head(MOST_ROWS).to_dict("records"):
        mean, low, high = (row[f"normalized_value{end}"] for end in ("", "_low", "_high"))
        interval = {0: "no seed", 1: "one seed"}.get(row["seeds"], f"[{three_decimals(low)}, {three_decimals(high)}]")
        cells = [_cell(row[key], is_class=key.endswith("._target_")) for key in shown]
        rows.append([*cells, three_decimals(mean) if mean == mean else "-", interval])
    names = [str(key).removeprefix("env.").removesuffix("._target_") for key in shown]
    text = format_table(rows, [*names, "normalized value", "95 % interval"])
    return text + f"\n... and {counted(len(table) - MOST_ROWS, 'more row')}" * (len(table) > MOST_ROWS)


def _cell(value: object, is_class: bool = False) -> str:
    """Returns a value of a key, a dash where a method has none; of a class only the last part of its path."""
    if value is None or value != value:
        return "-"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.rpartition(".")[2] if is_class else text


def best_trials_table(table: pd.DataFrame) -> str:
    """Returns the best trial of each method of a search, and which methods have none.

    Args:
        table: as `alignsim.analysis.search.trials` returns it.
    """
    from alignsim.analysis.search import best_trials, records, settings_of_trial, trial_interval

    best = best_trials(table)
    rows: list[tuple[str, ...] | str] = []
    for row in records(best):
        settings = {key.removeprefix("method."): value for key, value in settings_of_trial(row).items()}
        words = "  ".join(f"{key}={value}" for key, value in settings.items())
        rows.append((row["method"], str(row["trials"]), str(trial_interval(row)), words))
    without = sorted(set(table.method) - set(best.method))
    rows += [f"no trial of {', '.join(without)} has all its seeds"] * bool(without)
    return format_table(rows, ("method", "trials", "best value [95 %]", "settings"))


def sweep_table(log: SweepLog, best: bool) -> str:
    """Returns how the jobs of a command went: a row for each, failures last, and what to do about these.

    Args:
        log: the results of the jobs.
        best: add the condition of the smallest mean regret, for which a sweeper searches.
    """
    results = list(log.results.values())
    counts = Counter(result.state for result in results)
    lines = [f"{tally(counts, len(results))}, in {duration(time.monotonic() - log.began)}"]
    lines += [_jobs(results, counts["skipped"] <= MOST_SKIPPED)] * bool(results)
    if counts["skipped"] > MOST_SKIPPED:
        lines.append(f"  skipped  {counts['skipped']} conditions that had finished before")
    if best and (finite := [result for result in results if math.isfinite(result.regret)]):
        least = min(finite, key=lambda result: result.regret)
        lines.append(f"smallest mean regret {least.regret:.4f}: {least.title}  {least.name}")
    if counts["failed"] or counts["not run"]:
        lines.append("the same command again tries these again and leaves what is finished")
    return "\n".join(line for line in lines if line)


def _jobs(results: Iterable[JobResult], with_skipped: bool) -> str:
    listed = [result for result in results if with_skipped or result.state != "skipped"]
    listed.sort(key=lambda result: _STATES.index(result.state))
    rows = [(result.state, result.title, result.name, result.note or duration(result.seconds)) for result in listed]
    return format_table(rows, indent=2)


def dry_run_table(plans: Sequence[tuple[str, PlannedState, str]]) -> str:
    """Returns what running each job would do, and that nothing was done.

    Args:
        plans: for each job its title, the state that running it would meet, and more about that in words.
    """
    counts = Counter(state for _, state, _ in plans)
    rows = [(state, title, words) for title, state, words in plans]
    return format_table([*rows, f"dry run of {tally(counts, len(plans))}; nothing was done"])
