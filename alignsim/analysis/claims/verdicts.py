"""Judging claims: what the finished seeds of a study say about each prediction, whoever it favors.

A verdict follows from numbers alone: the per-seed differences that a claim is about, the interval of their mean against
the claim's margin, and p-values corrected for the number of claims of the study.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal

import numpy as np

from alignsim.analysis.claims.preregistration import Registered, Registry
from alignsim.analysis.claims.samples import Evidence, NoEvidenceError, evidence_of
from alignsim.analysis.claims.text import counted, limit, where_predicted
from alignsim.analysis.statistics import (
    FEWEST_SEEDS,
    LEVEL,
    Interval,
    difference_p,
    equivalence_p,
    holm,
    interquartile_mean_interval,
    mean_interval,
    mean_intervals,
    probability_of_improvement,
    seeds_needed,
    superiority_p,
    trend_p,
)
from alignsim.analysis.study import Study
from alignsim.config.claims import Claim
from alignsim.config.version import package_versions
from alignsim.runs.storage.versions import CODE
from alignsim.runs.train_config import to_plain

#: More seeds than this are not told as a number.
MANY_SEEDS = 100_000

#: Where a larger share of the seeds diverged, those that are left may be a selection.
MOST_DIVERGED = 0.1

Outcome = Literal["supported", "refuted", "inconclusive"]

_NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Verdict:
    """What the seeds of a study say about a claim.

    Attributes:
        name: the claim's.
        made: the claim and when it was made.
        outcome: of the prediction.
        why: in one sentence.
        estimate: what the claim is about: the mean over seeds of the difference, of the difference of differences, or
            of the rank correlation along the swept value; with its 95 % BCa bootstrap interval.
        middle: the interquartile mean of the same, with its interval.
        improvement: how likely a seed of the condition is above one of the baseline, where two conditions are compared.
        p: of the test for the prediction, two-sided, corrected for all claims of the study (Holm).
        p_against: of the test for its contrary, corrected in the same way.
        seeds: that stand behind it.
        diverged: seeds that were left out because their training diverged, or their measure is not finite.
        missing: seeds that only some of the conditions have.
        needed: about how many seeds would decide an inconclusive one with a power of 80 % (Student's t test, if the
            estimate is right); None where that is unknown.
        notes: what a reader should know beside it.
    """

    name: str
    made: Registered
    outcome: Outcome = "inconclusive"
    why: str = ""
    estimate: Interval = _NOTHING
    middle: Interval = _NOTHING
    improvement: Interval | None = None
    p: float = 1.0
    p_against: float = 1.0
    seeds: int = 0
    diverged: int = 0
    missing: int = 0
    needed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def claim(self) -> Claim:
        """What was predicted."""
        return self.made.claim

    def to_plain(self) -> dict[str, Any]:
        """As `verdicts.json` has it."""
        claim = {key: value for key, value in to_plain(self.claim).items() if value not in (None, {})}
        return {
            "name": self.name,
            "verdict": self.outcome,
            "why": self.why,
            **claim,
            "estimate": _number(self.estimate.mean),
            "interval": _ends(self.estimate),
            "interquartile_mean": _number(self.middle.mean),
            "interquartile_mean_interval": _ends(self.middle),
            "probability_of_improvement": None if self.improvement is None else _number(self.improvement.mean),
            "probability_of_improvement_interval": None if self.improvement is None else _ends(self.improvement),
            "p_value": _number(self.p),
            "p_value_against": _number(self.p_against),
            "seeds": self.seeds,
            "diverged_seeds": self.diverged,
            "missing_seeds": self.missing,
            "seeds_needed": self.needed,
            "registered": self.made.registered,
            "made_before_training": self.made.registered_before_training,
            "seeds_registered": self.made.seeds,
            "earlier": [to_plain(earlier) for earlier in self.made.earlier],
            "notes": list(self.notes),
        }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _ends(interval: Interval) -> list[float | None]:
    return [_number(interval.low), _number(interval.high)]


def judge(study: Study, registry: Registry) -> list[Verdict]:
    """A verdict for each claim of a study, in their order.

    Supported: the whole 95 % interval is where the claim predicts, beyond its margin, and the corrected p-value is
    below 0.05. Refuted: the same for the contrary. Inconclusive: neither; or fewer than eight seeds, or more than a
    tenth of them diverged. P-values are two-sided and corrected for the number of claims, those without evidence
    among them: with normal seeds a false claim is supported in at most one study of forty, and a true one refuted in
    as few; with other seeds see `python -m scripts.measurements.calibration`.
    """
    tested = [_tested(study, name, made, len(registry.claims)) for name, made in registry.claims.items()]
    corrected = holm([verdict.p for verdict in tested])
    against = holm([verdict.p_against for verdict in tested])
    judged = []
    for verdict, p, p_against in zip(tested, corrected, against, strict=True):
        judged.append(_concluded(replace(verdict, p=p, p_against=p_against)))
    return judged


def _tested(study: Study, name: str, made: Registered, claims: int) -> Verdict:
    """The numbers of a claim, its p-values not yet corrected."""
    claim = made.claim
    try:
        evidence = evidence_of(study, claim)
    except NoEvidenceError as reason:
        return Verdict(name, made, why=str(reason))
    values, n = evidence.values, len(evidence.values)
    found = Verdict(name, made, seeds=n, diverged=evidence.diverged, missing=evidence.missing)
    if n == 0:
        all_lost = evidence.diverged > 0 and not evidence.missing
        why = f"all {evidence.diverged} seeds diverged" if all_lost else "no seed has finished in all its conditions"
        return replace(found, why=why)
    found = replace(
        found,
        estimate=mean_interval(values),
        middle=interquartile_mean_interval(values),
        improvement=None if evidence.pair is None else probability_of_improvement(*evidence.pair),
        notes=(*_reversed_steps(evidence), *_dropped(claim, evidence), *_looks(made, n)),
    )
    if n < FEWEST_SEEDS:
        return found
    p, p_against = _p_values(claim, evidence)
    spread, distances = float(values.std(ddof=1)), _distances(claim, found.estimate.mean)
    needed = seeds_needed(distances, spread, LEVEL / claims, most=MANY_SEEDS)
    return replace(found, p=p, p_against=p_against, needed=needed if needed > n else None)


def _reversed_steps(evidence: Evidence) -> list[str]:
    """The steps of a trend that go the other way than the whole, with their whole 95 % interval."""
    if evidence.table is None or len(evidence.values) < 2:
        return []
    told, rises = [], evidence.values.mean() > 0
    steps = mean_intervals(np.diff(evidence.table, axis=1).T)
    for start, end, step in zip(evidence.along, evidence.along[1:], steps, strict=False):
        if step.lead == (-1 if rises else 1):
            verb = "falls" if rises else "rises"
            told.append(f"not all the way: from {start:g} to {end:g} it {verb}, by {step}")
    return told


def _dropped(claim: Claim, evidence: Evidence) -> list[str]:
    """The values along a trend that it is not judged by."""
    listed = ", ".join(f"{value:g}" for value in evidence.dropped)
    return [f"without {claim.along} {listed}: not all of its conditions are there"] if evidence.dropped else []


def _looks(made: Registered, n: int) -> list[str]:
    if n <= made.seeds:
        return []
    return [f"judged on {n} seeds, registered for {made.seeds}: a verdict that was waited for is wrong more often"]


def _sign(claim: Claim) -> int:
    """-1 for what predicts small numbers: its numbers are turned over, and it is judged as what predicts large ones."""
    return -1 if claim.predicts in ("less", "decreases") else 1


def _p_values(claim: Claim, evidence: Evidence) -> tuple[float, float]:
    """Of the tests for a prediction and for its contrary."""
    if evidence.table is not None:
        turned = _sign(claim) * evidence.table
        return trend_p(turned), trend_p(-turned)
    if claim.predicts == "equal":
        return equivalence_p(evidence.values, claim.margin), difference_p(evidence.values, claim.margin)
    turned = _sign(claim) * evidence.values
    return superiority_p(turned, claim.margin), superiority_p(-turned, -claim.margin)


def _distances(claim: Claim, estimate: float) -> list[float]:
    """How far an estimate is from where the verdict changes, for each test that decides it."""
    margin, off = claim.margin, abs(estimate)
    if claim.predicts != "equal":
        return [abs(_sign(claim) * estimate - margin)]
    return [margin - off, margin + off] if off < margin else [off - margin]


def _where(claim: Claim, low: float, high: float) -> tuple[bool, bool]:
    """Whether all of an interval is where a claim predicts, and whether all of it is where it does not."""
    margin = claim.margin
    if claim.predicts == "equal":
        return -margin < low and high < margin, margin < low or high < -margin
    low, high = sorted((_sign(claim) * low, _sign(claim) * high))
    return low > margin, high < margin


def _concluded(verdict: Verdict) -> Verdict:
    """With the outcome that follows from the numbers, and the reason."""
    claim, interval = verdict.claim, verdict.estimate
    if verdict.why:
        return verdict
    if verdict.seeds < FEWEST_SEEDS:
        why = f"{counted(verdict.seeds, 'seed')}: too few for a verdict, it takes at least {FEWEST_SEEDS}"
        return replace(verdict, why=why, needed=FEWEST_SEEDS)
    if verdict.diverged > MOST_DIVERGED * (verdict.diverged + verdict.seeds):
        why = f"{counted(verdict.diverged, 'seed')} diverged: the {verdict.seeds} that are left may be a selection"
        return replace(verdict, why=why, needed=None)
    inside, outside = _where(claim, interval.low, interval.high)
    if inside and verdict.p < LEVEL:
        return replace(verdict, outcome="supported", why=f"{interval.ends} is {where_predicted(claim)}", needed=None)
    if outside and verdict.p_against < LEVEL:
        return replace(verdict, outcome="refuted", why=f"{interval.ends} is not {where_predicted(claim)}", needed=None)
    told = f"{interval.ends} reaches across {limit(claim)}"
    if inside or outside:
        p, of = (verdict.p, "p") if inside else (verdict.p_against, "p of the contrary")
        told = f"the corrected {of} is {p:.2g}"
    if verdict.needed is None:
        return replace(verdict, why=f"{told}; with more seeds it may be decided, how many cannot be told")
    many = f"more than {MANY_SEEDS:,}" if verdict.needed >= MANY_SEEDS else f"about {verdict.needed:,}"
    way = "support" if _where(claim, interval.mean, interval.mean)[0] else "refute"
    return replace(verdict, why=f"{told}; if the estimate is right, {many} fresh seeds would {way} it")


def verdicts_text(study: Study, registry: Registry, verdicts: Sequence[Verdict]) -> str:
    """The content of `verdicts.json`."""
    code = sorted(set(study.rows[CODE].astype(str))) if len(study.rows) else []
    packages = package_versions("alignsim", "numpy", "scipy", "pandas")
    content = {
        "study": study.name,
        "question": registry.question,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "level": LEVEL,
        "correction": "Holm, over the claims of the study",
        "intervals": "95 % BCa bootstrap over seeds",
        "versions": {"results": code, **packages},
        "claims": [verdict.to_plain() for verdict in verdicts],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
