"""Printed tables, cell by cell."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from alignsim.analysis.claims.preregistration import RegisteredClaim
from alignsim.analysis.claims.verdicts import Verdict
from alignsim.analysis.search import trials
from alignsim.analysis.statistics import Interval
from alignsim.analysis.summary import summarize
from alignsim.config.claims import Claim
from alignsim.report.terminal import (
    MOST_SKIPPED,
    best_trials_table,
    dry_run_table,
    seeds_behind,
    summary_table,
    sweep_table,
    verdict_table,
)
from alignsim.runs.job import JobResult
from alignsim.runs.sweep_log import SweepLog
from tests.analysis.test_search import searched
from tests.analysis.test_study import two_by_two

CLAIM = Claim(says="It is so.", source="a test", predicts="greater", condition={"method": "rlhf"}, margin=0.1)
RECORD = RegisteredClaim(CLAIM, "2026-01-01", True, 16)
SUPPORTED = Verdict("wins", RECORD, "supported", "", Interval(0.3, 0.2, 0.4, 16), p=0.0002, p_against=1.0, seeds=16)


def cells(line):
    return re.split(r" {2,}", line.strip())


def test_a_verdict_is_a_row_of_its_numbers():
    headings, row = verdict_table([SUPPORTED]).splitlines()
    assert cells(headings) == ["verdict", "claim", "estimate [95 %]", "predicted", "p", "seeds"]
    assert cells(row) == ["supported", "wins", "0.300 [0.200, 0.400]", "above 0.1", "< 0.001", "16 seeds"]


def test_a_refuted_claim_shows_the_p_value_of_its_contrary():
    refuted = replace(SUPPORTED, outcome="refuted", p=1.0, p_against=0.02)
    assert cells(verdict_table([refuted]).splitlines()[1])[4] == "0.02"


def test_reasons_and_notes_stand_below_their_verdict():
    late = replace(RECORD, registered_before_training=False)
    unclear = Verdict("ties", late, "inconclusive", "why it is", notes=("a note",), seeds=3, diverged=1, missing=2)
    _, first, second, reason, note = verdict_table([replace(SUPPORTED, why="unread"), unclear]).splitlines()
    assert cells(first)[0] == "supported"
    assert cells(second)[-2:] == [seeds_behind(unclear), "registered after training began"]
    assert (reason.strip(), note.strip()) == ("why it is", "a note")
    assert seeds_behind(unclear) == "3 seeds, 1 diverged, 2 not in all conditions"


def test_the_summary_shows_conditions_values_and_intervals():
    table = summarize(two_by_two())
    headings, *rows = summary_table(table).splitlines()
    assert cells(headings) == ["method", "env", "complexity_factor", "seeds", "normalized value", "95 % interval"]
    assert len(rows) == len(table)
    row = next(row for row in rows if cells(row)[:2] == ["rlhf - dpo", "gap"])
    assert cells(row)[2:] == ["2", "12", "0.300", "[0.300, 0.300]"]


def test_the_best_trial_of_each_method_is_a_row():
    table = trials(searched())
    headings, *rows = best_trials_table(table).splitlines()
    assert cells(headings)[:2] == ["method", "trials"]
    assert {tuple(cells(row)[:2]) for row in rows} == {("dpo", "5"), ("rlhf", "5")}
    assert all("policy_fit.learning_rate=0.01" in cells(row) for row in rows)


def report(name, state, note="", regret=float("nan")):
    return JobResult((name,), f"folder-{name}", f"dpo · {name}", state, note, 2.0, regret)


def log_of(*reports):
    log = SweepLog()
    for one in reports:
        log.note(one)
    return log


def test_a_sweep_lists_its_jobs_with_failures_last():
    log = log_of(report("b", "failed", "ValueError: no"), report("a", "finished", regret=0.5))
    total, *rows, advice = sweep_table(log, best=False).splitlines()
    assert total.startswith("2 conditions: 1 failed, 1 finished, in ")
    assert [cells(row) for row in rows] == [
        ["finished", "dpo · a", "folder-a", "2.0 s"],
        ["failed", "dpo · b", "folder-b", "ValueError: no"],
    ]
    assert "again" in advice


def test_many_skipped_jobs_are_counted_and_not_listed():
    skipped = [report(str(i), "skipped", "had finished before") for i in range(MOST_SKIPPED + 1)]
    _, row, count = sweep_table(log_of(report("new", "finished"), *skipped), best=False).splitlines()
    assert cells(row)[1] == "dpo · new"
    assert cells(count)[:1] == ["skipped"]
    assert str(MOST_SKIPPED + 1) in count
    assert len(sweep_table(log_of(*skipped[1:]), best=False).splitlines()) == 1 + MOST_SKIPPED
    assert len(sweep_table(log_of(*skipped), best=False).splitlines()) == 2


def test_a_search_ends_with_its_smallest_regret():
    log = log_of(*(report(name, "finished", regret=r) for name, r in (("a", 0.5), ("b", 0.25), ("c", float("nan")))))
    last = sweep_table(log, best=True).splitlines()[-1]
    assert "0.2500" in last
    assert "folder-b" in last


def test_a_dry_run_says_what_each_job_would_do():
    plans = [("dpo · gap", "new", "to train: seeds 0 to 3"), ("rlhf · no_gap", "finished", "seeds 0 to 3")]
    first, second, last = dry_run_table(plans).splitlines()
    assert cells(first) == ["new", "dpo · gap", "to train: seeds 0 to 3"]
    assert cells(second) == ["finished", "rlhf · no_gap", "seeds 0 to 3"]
    assert last.startswith("dry run of 2 conditions: 1 finished, 1 new;")


@pytest.mark.parametrize("module", ["torch", "numpy", "pandas", "matplotlib", "scipy"])
def test_tables_of_a_sweep_need_no_heavy_import(module):
    code = f"import sys, alignsim.report.terminal; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
