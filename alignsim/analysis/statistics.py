"""Statistics over seeds, on plain arrays: intervals, tests against margins, trends, and the measures of rliable.

Nothing here knows of methods, measures or files. The bootstrap, the rank tests and the distributions are scipy's, whose
import takes most of a second, so it happens on first use. Every function is deterministic.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alignsim.runs.text import three_decimals

Numbers = npt.NDArray[np.float64]

#: Two-sided level of every interval, test and verdict.
LEVEL = 0.05

#: With fewer seeds nothing is concluded: bootstrap intervals are too narrow, and tests of skewed seeds reject too
#: often.
FEWEST_SEEDS = 8

#: The probability of finding a true effect with as many seeds as `seeds_needed` returns.
POWER = 0.8

#: How many resamples a bootstrap draws; fewer of large samples, so that at most `_IN_ALL` numbers are drawn, `_AT_ONCE`
#: of them at a time.
RESAMPLES, LEAST_RESAMPLES = 9999, 999
_IN_ALL, _AT_ONCE = 1e8, 4e6

#: With more seeds the correction of a BCa interval is negligible and slow to compute, so a percentile interval is used.
MOST_FOR_BCA = 2000


class Interval(NamedTuple):
    """An estimate from n seeds and its two-sided 95 % interval; the ends are NaN where there are fewer than two."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def lead(self) -> int | None:
        """1 where the whole interval is above 0, -1 where it is below, 0 where it holds 0; None for too few seeds."""
        return int(self.low > 0) - int(self.high < 0) if self.n >= FEWEST_SEEDS else None

    def __str__(self) -> str:
        """Such as `0.334 [0.295, 0.381]`; without the ends where there are none."""
        return f"{three_decimals(self.mean)} {self.ends}" if self.n > 1 else three_decimals(self.mean)

    @property
    def ends(self) -> str:
        """Such as `[0.295, 0.381]`."""
        return f"[{three_decimals(self.low)}, {three_decimals(self.high)}]"


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Returns the mean over seeds with its 95 % bootstrap interval, bias-corrected and accelerated (BCa; Efron 1987).

    With few seeds the interval is too narrow; `python -m scripts.measurements.calibration` measures by how much.

    Args:
        values: one number for each seed, (n,).
    """
    return mean_intervals(np.asarray(values, dtype=float)[None])[0]


def mean_intervals(rows: npt.ArrayLike) -> list[Interval]:
    """Returns `mean_interval` of each row of an array (rows, seeds)."""
    return _intervals(np.mean, np.asarray(rows, dtype=float))


def interquartile_mean_interval(values: npt.ArrayLike) -> Interval:
    """Returns the mean of the middle half of the seeds (Agarwal et al. 2021) with its 95 % BCa interval."""
    return _intervals(_interquartile_mean, np.asarray(values, dtype=float)[None])[0]


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Returns the mean without the lowest and the highest quarter, each rounded down to whole seeds."""
    return float(_interquartile_mean(np.asarray(values, dtype=float)))


def _interquartile_mean(values: Numbers, axis: int = -1) -> Numbers:
    ordered = np.sort(values, axis)
    cut = ordered.shape[axis] // 4
    middle = ordered.take(range(cut, ordered.shape[axis] - cut), axis)
    return np.asarray(middle.mean(axis))


def _intervals(statistic: Callable[..., Any], rows: Numbers) -> list[Interval]:
    """The interval of each row of a statistic that shifts and scales with its numbers and ignores their order."""
    n = rows.shape[-1]
    estimates = statistic(rows, axis=-1) if n else np.full(len(rows), np.nan)
    low, high = np.full((2, len(rows)), np.nan)
    if n > 1:
        center, deviation = rows.mean(-1), rows.std(-1)
        deviation[deviation == 0] = 1

        def rounded(values: Numbers, axis: int = -1) -> Any:
            return np.round(statistic(values, axis=axis), 12)  # what ties with the estimate must tie exactly

        standard = np.sort((rows - center[:, None]) / deviation[:, None], axis=-1)
        low, high = (center + deviation * end for end in _ends((standard,), rounded))
    ends = zip(estimates, low, high, strict=True)
    return [Interval(float(mean), float(below), float(above), n) for mean, below, above in ends]


def _ends(samples: Sequence[Numbers], statistic: Callable[..., Any], paired: bool = True) -> tuple[Numbers, Numbers]:
    """The ends of a 95 % BCa interval, or of a percentile interval where BCa is undefined (extreme estimates)."""
    result = _bootstrap(samples, statistic, paired=paired)
    low, high = map(np.array, result.confidence_interval)
    if (none := np.isnan(low) | np.isnan(high)).any():
        plain = np.quantile(result.bootstrap_distribution[none], [LEVEL / 2, 1 - LEVEL / 2], axis=-1)
        low[none], high[none] = plain
    return low, high


def _bootstrap(
    samples: Sequence[Numbers], statistic: Callable[..., Any], method: str = "BCa", paired: bool = True
) -> Any:
    """Scipy's bootstrap over the last axis; paired samples are resampled together."""
    method = "percentile" if samples[0].shape[-1] > MOST_FOR_BCA else method
    from scipy.stats import bootstrap

    resample: Any = bootstrap
    size = max(samples[0].size, 1) * (1 if len(samples) == 1 else 10)  # two samples are ranked, which takes longer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows whose resamples are all the same
        return resample(
            samples,
            statistic,
            n_resamples=int(min(max(_IN_ALL / size, LEAST_RESAMPLES), RESAMPLES)),
            batch=max(int(_AT_ONCE / size), 1),
            paired=paired,
            vectorized=True,
            axis=-1,
            confidence_level=1 - LEVEL,
            method=method,
            rng=np.random.default_rng(0),
        )


def probability_of_improvement(x: npt.ArrayLike, y: npt.ArrayLike) -> Interval:
    """Returns the probability that a run of x is above a run of y, ties counted half: Mann and Whitney's U / (n m).

    This is the definition of Agarwal et al. 2021 for one task: each run of x is compared with each run of y, and the
    two are resampled independently for the 95 % BCa interval. It is 0.5 where both have the same distribution.

    Args:
        x: one number for each seed, (n,).
        y: one number for each seed of what x is compared with, (m,).
    """
    left, right = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = min(len(left), len(right))
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    estimate = float(_improvement(left, right))
    if n == 1:
        return Interval(estimate, float("nan"), float("nan"), 1)
    low, high = _ends((left, right), _improvement, paired=False)
    return Interval(estimate, float(low), float(high), n)


def _improvement(x: Numbers, y: Numbers, axis: int = -1) -> Any:
    from scipy.stats import rankdata

    n, m = x.shape[axis], y.shape[axis]
    ranks = rankdata(np.concatenate([x, y], axis), axis=axis)
    wins = ranks.take(range(n), axis).sum(axis) - n * (n + 1) / 2
    return wins / (n * m)


def performance_profile(scores: npt.ArrayLike, thresholds: npt.ArrayLike) -> list[Interval]:
    """Returns the share of scores above each threshold with its 95 % BCa interval: a performance profile.

    Every task has the same weight (Agarwal et al. 2021). Intervals hold for each threshold by itself.

    Args:
        scores: one for each task and seed, (tasks, seeds); all tasks have the same seeds, which are resampled together.
        thresholds: increasing levels of score, (k,).
    """
    above = np.asarray(scores, dtype=float)[None] > np.asarray(thresholds, dtype=float)[:, None, None]
    return mean_intervals(above.mean(1))


def superiority_p(values: npt.ArrayLike, margin: float = 0.0) -> float:
    """Returns the two-sided p-value of a mean above a margin; 1 where the mean is below.

    It is the larger p-value of two tests: Student's t, exact for normal seeds, and the studentized bootstrap (Hall
    1988), which keeps its level for skewed ones. If p < 0.05, a 95 % interval lies entirely above the margin.

    Args:
        values: one for each seed, (n,), at least two.
        margin: what the mean is tested against.
    """
    from scipy.special import stdtr

    shifted = np.asarray(values, dtype=float) - margin
    n, mean = len(shifted), shifted.mean()
    if np.ptp(shifted) == 0:
        return 2.0 ** (1 - n) if mean > 0 else 1.0  # the p-value of a sign test
    error = _standard_error(shifted)
    observed = mean / error

    def t_of_resamples(resamples: Numbers, axis: int = -1) -> Any:
        # without the one odd seed a resample can have almost no variance, so its standard error has a lower bound
        return (resamples.mean(axis) - mean) / np.maximum(_standard_error(resamples, axis), error / 5)

    distribution = _bootstrap((shifted,), t_of_resamples, method="percentile").bootstrap_distribution
    resampled = (1 + (distribution >= observed).sum()) / (1 + len(distribution))
    return float(min(2 * max(stdtr(n - 1, -observed), resampled), 1.0))


def _standard_error(values: Numbers, axis: int = -1) -> Any:
    """The standard error of the mean."""
    return values.std(axis, ddof=1) / math.sqrt(values.shape[axis])


def equivalence_p(values: npt.ArrayLike, margin: float) -> float:
    """Returns the p-value of a mean less than a margin away from 0: two one-sided tests (Schuirmann 1987).

    Both tests must reject, so it is the larger p-value; at 0.05 a 95 % interval just fits between the margins.
    """
    sample = np.asarray(values, dtype=float)
    return max(superiority_p(sample, -margin), superiority_p(-sample, -margin))


def difference_p(values: npt.ArrayLike, margin: float) -> float:
    """Returns the p-value of a mean more than a margin away from 0, on either side: the contrary of an equivalence."""
    sample = np.asarray(values, dtype=float)
    return min(superiority_p(sample, margin), superiority_p(-sample, margin))


def rank_correlations(table: npt.ArrayLike) -> Numbers:
    """Returns Spearman's correlation of each row of a table (seeds, k) with the order of its columns, (seeds,).

    It is 0 for a row whose numbers are all equal.
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.asarray(table, dtype=float), axis=1)
    ranks = ranks - ranks.mean(1, keepdims=True)
    order = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    norm = np.sqrt((ranks**2).sum(1) * (order**2).sum())
    correlations: Numbers = np.divide(ranks @ order, norm, out=np.zeros(len(ranks)), where=norm > 0)
    return correlations


def trend_p(table: npt.ArrayLike) -> float:
    """Returns the two-sided p-value of numbers that rise along the columns of a table (seeds, k), k >= 3.

    It is the larger p-value of two tests: Page's test for ordered alternatives (Page 1963), which ranks within each
    seed, so that seeds need not be comparable, but assumes that the columns of a seed are independent; and Student's t
    test of the seeds' rank correlations, which does not. Single steps of a trend may go the other way. It is 1 where
    the numbers fall on the whole.
    """
    from scipy.special import stdtr
    from scipy.stats import page_trend_test

    numbers = np.asarray(table, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ties make it approximate
        pages = float(2 * page_trend_test(numbers).pvalue)
    correlations, n = rank_correlations(numbers), len(numbers)
    if np.ptp(correlations) == 0:
        students = 2.0 ** (1 - n) if correlations[0] > 0 else 1.0
    else:
        students = float(2 * stdtr(n - 1, -correlations.mean() / _standard_error(correlations)))
    return min(max(pages, students), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number: the level bounds the chance of any false rejection (Holm 1979)."""
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min((len(p_values) - rank) * p_values[i], 1.0))
        corrected[i] = worst
    return corrected


def power(effect: float, deviation: float, n: int, level: float = LEVEL) -> float:
    """Returns the probability that Student's t test finds a mean above a margin, in one direction of a two-sided level.

    Args:
        effect: by how much the mean is above the margin.
        deviation: the standard deviation over seeds, above 0, in the units of the effect.
        n: the number of seeds, at least 2.
        level: the two-sided level.
    """
    from scipy.special import stdtrit
    from scipy.stats import nct

    return float(nct.sf(stdtrit(n - 1, 1 - level / 2), n - 1, effect / deviation * math.sqrt(n)))


def seeds_needed(effects: Sequence[float], deviation: float, level: float = LEVEL, most: int = 10**6) -> int:
    """Returns the fewest seeds with which Student's t tests find all these effects with a power of `POWER`.

    Args:
        effects: distances of the mean from the margins, one for each test that must reject.
        deviation: the standard deviation over seeds.
        level: the two-sided level.
        most: returned where no smaller number of seeds suffices.
    """
    if deviation <= 0 or min(effects) <= 0:
        return most if min(effects) <= 0 else 2

    def enough(n: int) -> bool:
        return 1 - sum(1 - power(effect, deviation, n, level) for effect in effects) >= POWER

    return 2 + bisect_left(range(2, most), True, key=enough)
