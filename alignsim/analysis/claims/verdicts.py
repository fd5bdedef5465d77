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

from alignsim.analysis.claims.preregistration import Preregistration, RegisteredClaim
from alignsim.analysis.claims.samples import ClaimSamples, NoSamplesError, samples_of
from alignsim.analysis.claims.text import predicted_range, threshold
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
from alignsim.runs.text import counted
from alignsim.runs.train_config import to_plain

#: A verdict does not say how many seeds it needs if these are more.
MANY_SEEDS = 100_000

#: If a larger share of the seeds diverged, the others may be a selection, and nothing is concluded.
MOST_DIVERGED = 0.1

VerdictOutcome = Literal["supported", "refuted", "inconclusive"]

_NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Verdict:
    """What the seeds of a study say about a claim.

    Attributes:
        name: the claim's name in the configuration.
        record: the claim and when it was registered.
        outcome: whether the prediction is supported, refuted or neither.
        why: the reason, in one sentence without a full stop.
        estimate: the mean over seeds of what the claim is about (the difference, the difference of differences, or the
            rank correlation along the swept value) with its 95 % BCa bootstrap interval, in the units of the measure.
        middle: the interquartile mean of the same numbers, with its interval.
        improvement: the probability that a run of the condition is above a run of the baseline, where two conditions
            are compared; else None.
        p: the two-sided p-value of the prediction, corrected for all claims of the study (Holm).
        p_against: the p-value of the contrary of the prediction, corrected in the same way.
        seeds: how many seeds the verdict rests on.
        diverged: how many seeds were left out because their training diverged or their measure is not finite.
        missing: how many seeds only some of the conditions have.
        needed: about how many seeds would decide an inconclusive verdict with a power of 80 %, if the estimate is
            right (Student's t test); None where that is unknown.
        notes: what a reader should know besides, one sentence each.
    """

    name: str
    record: RegisteredClaim
    outcome: VerdictOutcome = "inconclusive"
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
        return self.record.claim

    def to_plain(self) -> dict[str, Any]:
        """Returns the verdict as `verdicts.json` stores it."""
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
            "registered_at": self.record.registered_at,
            "registered_before_training": self.record.registered_before_training,
            "planned_seeds": self.record.planned_seeds,
            "earlier_versions": [to_plain(earlier) for earlier in self.record.earlier_versions],
            "notes": list(self.notes),
        }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _ends(interval: Interval) -> list[float | None]:
    return [_number(interval.low), _number(interval.high)]


def judge(study: Study, preregistration: Preregistration) -> list[Verdict]:
    """Returns a verdict for each claim of a study, in the order of the claims.

    A claim is supported if the whole 95 % interval is where the claim predicts, beyond its margin, and the corrected
    p-value is below 0.05. It is refuted if both hold for the contrary. Otherwise, with fewer than eight seeds, or if
    more than a tenth of the seeds diverged, it is inconclusive. P-values are two-sided and corrected for the number of
    claims (Holm 1979), those that cannot be judged among them: with normal seeds, at most one study of forty supports
    a false claim, and at most one of forty refutes a true one. For other distributions see
    `python -m scripts.measurements.calibration`.
    """
    claims = preregistration.claims
    tested = [_test(study, name, record, len(claims)) for name, record in claims.items()]
    corrected = holm([verdict.p for verdict in tested])
    against = holm([verdict.p_against for verdict in tested])
    numbers = zip(tested, corrected, against, strict=True)
    return [_conclude(replace(verdict, p=p, p_against=p_against)) for verdict, p, p_against in numbers]


def _test(study: Study, name: str, record: RegisteredClaim, n_claims: int) -> Verdict:
    """The numbers of a claim, its p-values not yet corrected."""
    claim = record.claim
    try:
        samples = samples_of(study, claim)
    except NoSamplesError as reason:
        return Verdict(name, record, why=str(reason))
    n = len(samples.values)
    verdict = Verdict(name, record, seeds=n, diverged=samples.diverged, missing=samples.missing)
    if n == 0:
        return replace(verdict, why=_why_no_seeds(samples))
    verdict = replace(
        verdict,
        estimate=mean_interval(samples.values),
        middle=interquartile_mean_interval(samples.values),
        improvement=None if samples.pair is None else probability_of_improvement(*samples.pair),
        notes=(*_reversed_steps(samples), *_dropped_values(claim, samples), *_optional_stopping(record, n)),
    )
    if n < FEWEST_SEEDS:
        return verdict
    p, p_against = _p_values(claim, samples)
    deviation = float(samples.values.std(ddof=1))
    needed = seeds_needed(_distances(claim, verdict.estimate.mean), deviation, LEVEL / n_claims, most=MANY_SEEDS)
    return replace(verdict, p=p, p_against=p_against, needed=needed if needed > n else None)


def _why_no_seeds(samples: ClaimSamples) -> str:
    if samples.diverged and not samples.missing:
        return f"all {samples.diverged} seeds diverged"
    return "no seed has finished in all conditions of the claim"


def _reversed_steps(samples: ClaimSamples) -> list[str]:
    """The steps of a trend whose whole 95 % interval goes the other way than the trend."""
    if samples.table is None or len(samples.values) < 2:
        return []
    notes, rises = [], samples.values.mean() > 0
    steps = mean_intervals(np.diff(samples.table, axis=1).T)
    for start, end, step in zip(samples.along, samples.along[1:], steps, strict=False):
        if step.lead == (-1 if rises else 1):
            verb = "falls" if rises else "rises"
            notes.append(f"not at every step: from {start:g} to {end:g} it {verb}, by {step}")
    return notes


def _dropped_values(claim: Claim, samples: ClaimSamples) -> list[str]:
    """The swept values that a trend is not judged by."""
    if not samples.dropped:
        return []
    listed = ", ".join(f"{value:g}" for value in samples.dropped)
    return [f"judged without {claim.along} {listed}, which not all conditions of the claim have"]


def _optional_stopping(record: RegisteredClaim, n: int) -> list[str]:
    if n <= record.planned_seeds:
        return []
    reason = "adding seeds until a verdict appears (optional stopping) inflates the error rate"
    return [f"judged on {n} seeds, registered for {record.planned_seeds}: {reason}"]


def _sign(claim: Claim) -> int:
    """-1 for a claim that predicts small numbers: it is judged by their negatives, as one that predicts large ones."""
    return -1 if claim.predicts in ("less", "decreases") else 1


def _p_values(claim: Claim, samples: ClaimSamples) -> tuple[float, float]:
    """The p-values of a prediction and of its contrary, not corrected."""
    if samples.table is not None:
        oriented = _sign(claim) * samples.table
        return trend_p(oriented), trend_p(-oriented)
    if claim.predicts == "equal":
        return equivalence_p(samples.values, claim.margin), difference_p(samples.values, claim.margin)
    oriented = _sign(claim) * samples.values
    return superiority_p(oriented, claim.margin), superiority_p(-oriented, -claim.margin)


def _distances(claim: Claim, estimate: float) -> list[float]:
    """How far an estimate is from where the verdict changes, for each test that decides it."""
    margin, off = claim.margin, abs(estimate)
    if claim.predicts != "equal":
        return [abs(_sign(claim) * estimate - margin)]
    return [margin - off, margin + off] if off < margin else [off - margin]


def _inside_and_outside(claim: Claim, low: float, high: float) -> tuple[bool, bool]:
    """Whether all of an interval is where a claim predicts, and whether all of it is where it does not."""
    margin = claim.margin
    if claim.predicts == "equal":
        return -margin < low and high < margin, margin < low or high < -margin
    low, high = sorted((_sign(claim) * low, _sign(claim) * high))
    return low > margin, high < margin


def _conclude(verdict: Verdict) -> Verdict:
    """The verdict with the outcome that follows from its numbers, and the reason."""
    claim, interval = verdict.claim, verdict.estimate
    if verdict.why:
        return verdict
    if verdict.seeds < FEWEST_SEEDS:
        why = f"{counted(verdict.seeds, 'seed')}: a verdict takes at least {FEWEST_SEEDS}"
        return replace(verdict, why=why, needed=FEWEST_SEEDS)
    if verdict.diverged > MOST_DIVERGED * (verdict.diverged + verdict.seeds):
        why = f"{counted(verdict.diverged, 'seed')} diverged: the other {verdict.seeds} may be a selection"
        return replace(verdict, why=why, needed=None)
    inside, outside = _inside_and_outside(claim, interval.low, interval.high)
    if inside and verdict.p < LEVEL:
        return replace(verdict, outcome="supported", why=f"{interval.ends} is {predicted_range(claim)}", needed=None)
    if outside and verdict.p_against < LEVEL:
        return replace(verdict, outcome="refuted", why=f"{interval.ends} is not {predicted_range(claim)}", needed=None)
    return replace(verdict, why=_why_inconclusive(verdict, inside, outside))


def _why_inconclusive(verdict: Verdict, inside: bool, outside: bool) -> str:
    """Why a verdict with enough seeds decides nothing, and how many seeds would decide it."""
    claim, interval = verdict.claim, verdict.estimate
    reason = f"{interval.ends} reaches across {threshold(claim)}"
    if inside or outside:
        p, name = (verdict.p, "p") if inside else (verdict.p_against, "p of the contrary")
        reason = f"the corrected {name} is {p:.2g}"
    if verdict.needed is None:
        return f"{reason}; more seeds may decide it, but how many is unknown"
    many = f"more than {MANY_SEEDS:,}" if verdict.needed >= MANY_SEEDS else f"about {verdict.needed:,}"
    verb = "support" if _inside_and_outside(claim, interval.mean, interval.mean)[0] else "refute"
    return f"{reason}; if the estimate is right, {many} fresh seeds would {verb} it"


def verdicts_json(study: Study, preregistration: Preregistration, verdicts: Sequence[Verdict]) -> str:
    """Returns the content of `verdicts.json`: the verdicts, how they were reached, and the versions of all code."""
    code = sorted(set(study.rows[CODE].astype(str))) if len(study.rows) else []
    packages = package_versions("alignsim", "numpy", "scipy", "pandas")
    content = {
        "study": study.name,
        "question": preregistration.question,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "level": LEVEL,
        "correction": "Holm, over the claims of the study",
        "intervals": "95 % BCa bootstrap over seeds",
        "versions": {"results": code, **packages},
        "claims": [verdict.to_plain() for verdict in verdicts],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
