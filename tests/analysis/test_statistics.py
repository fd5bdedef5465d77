"""Statistics against scipy, against closed forms and against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from alignsim.analysis import statistics
from alignsim.analysis.statistics import Interval

RNG = np.random.default_rng(0)
SAMPLE = RNG.exponential(size=16)


def test_the_interval_of_a_mean_is_scipys_bca():
    sample = np.sort(SAMPLE)
    expected = stats.bootstrap((sample,), np.mean, n_resamples=9999, rng=np.random.default_rng(0)).confidence_interval
    assert statistics.mean_interval(SAMPLE) == pytest.approx((SAMPLE.mean(), *expected, 16))
    assert statistics.mean_interval(SAMPLE) == statistics.mean_interval(SAMPLE), "the same numbers every time"


def test_rows_have_the_intervals_that_they_have_alone():
    for row, together in zip((SAMPLE, -SAMPLE), statistics.mean_intervals([SAMPLE, -SAMPLE]), strict=True):
        assert together == pytest.approx(statistics.mean_interval(row))


def test_neither_the_order_of_the_seeds_nor_the_scale_matters():
    few = np.array([0.08, 0.35, 0.02, 0.06])  # of so few many resamples tie with the mean
    expected = statistics.mean_interval(few)
    assert statistics.mean_interval(few[::-1]) == pytest.approx(expected)
    assert np.array(statistics.mean_interval(1e-9 * few)[:3]) == pytest.approx(1e-9 * np.array(expected[:3]), abs=1e-15)


def test_intervals_of_no_seed_one_seed_and_equal_seeds():
    one = statistics.mean_interval([0.7])
    assert one.mean == 0.7
    assert np.isnan([one.low, one.high]).all()
    assert one.lead is None
    assert statistics.mean_interval([]).n == 0
    assert statistics.mean_interval([0.5] * 9) == Interval(0.5, 0.5, 0.5, 9)


def test_the_interquartile_mean_is_scipys_trimmed_mean():
    for n in (4, 7, 16):
        sample = RNG.normal(size=n)
        assert statistics.interquartile_mean(sample) == pytest.approx(stats.trim_mean(sample, 0.25))
    assert statistics.interquartile_mean([1, 2, 3, 4, 5, 6, 7, 100]) == pytest.approx((3 + 4 + 5 + 6) / 4)
    interval = statistics.interquartile_mean_interval([1, 2, 3, 4, 5, 6, 7, 100])
    assert interval.mean == pytest.approx(4.5)
    assert interval.low < interval.mean < interval.high < 100


def test_the_probability_of_improvement_counts_pairs():
    x, y = [0.9, 0.5, 0.7], [0.6, 0.5, 0.1]
    by_hand = (3 + 1.5 + 3) / 9  # 0.9 beats three, 0.5 beats one and ties one, 0.7 beats three
    assert statistics.probability_of_improvement(x, y).mean == pytest.approx(by_hand)
    assert statistics.probability_of_improvement(y, x).mean == pytest.approx(1 - by_hand)
    assert statistics.probability_of_improvement(x, x).mean == 0.5
    a, b = RNG.normal(size=12), RNG.normal(size=9)
    u = stats.mannwhitneyu(a, b, alternative="greater").statistic
    found = statistics.probability_of_improvement(a, b)
    assert found.mean == pytest.approx(u / (12 * 9)), "as Agarwal et al. compute it"
    assert found.low < found.mean < found.high
    assert statistics.probability_of_improvement(a + 100, b)[:3] == (1, 1, 1)


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    scores = [[0.1, 0.5, 0.9], [0.2, 0.2, 0.8]]  # two tasks, three seeds
    found = statistics.performance_profile(scores, [0.0, 0.2, 0.5, 1.0])
    assert [interval.mean for interval in found] == pytest.approx([1, 3 / 6, 2 / 6, 0])
    assert all(interval.low <= interval.mean <= interval.high for interval in found)


def studentized(sample, margin, times=200_000):
    """The one-sided p-value of the bootstrap-t test that the mean is above a margin, written out."""
    n, error = len(sample), sample.std(ddof=1) / np.sqrt(len(sample))
    resamples = sample[np.random.default_rng(5).integers(0, n, (times, n))]
    errors = np.maximum(resamples.std(1, ddof=1) / np.sqrt(n), error / 5)
    return np.mean((resamples.mean(1) - sample.mean()) / errors >= (sample.mean() - margin) / error)


@pytest.mark.parametrize("way", [1, -1])
def test_superiority_is_the_more_cautious_of_two_tests(way):
    sample = way * (np.random.default_rng(2).exponential(size=16) - 1) + 0.6  # skewed either way
    students = 2 * stats.ttest_1samp(sample, 0.0, alternative="greater").pvalue
    resampled = 2 * studentized(sample, 0.0)
    assert (resampled > students) == (way < 0), "a long tail below makes Student's test too sure"
    assert statistics.superiority_p(sample) == pytest.approx(max(students, resampled), abs=0.006)


def test_superiority_of_equal_seeds_is_that_of_a_sign_test():
    assert statistics.superiority_p(-SAMPLE, 0.1) == 1
    assert statistics.superiority_p([0.5] * 9, 0.4) == 2 * 0.5**9
    assert statistics.superiority_p([0.5] * 9, 0.5) == 1


def test_equivalence_is_two_one_sided_tests():
    sample = RNG.normal(0.0, 0.05, 20)
    one_sided = [
        statistics.superiority_p(sample, -0.05),
        statistics.superiority_p(-sample, -0.05),
    ]
    assert statistics.equivalence_p(sample, 0.05) == max(one_sided) < 0.05
    assert statistics.equivalence_p(sample + 0.05, 0.05) > 0.05
    assert statistics.difference_p(sample, 0.05) == 1
    assert statistics.difference_p(sample - 0.2, 0.05) < 0.05


def test_a_trend_is_the_more_cautious_of_two_tests():
    """It ignores the level of each seed."""
    table = np.arange(5) * 0.1 + RNG.normal(0, 0.2, (16, 5))
    p = statistics.trend_p(table)
    correlations = statistics.rank_correlations(table)
    students = 2 * stats.ttest_1samp(correlations, 0, alternative="greater").pvalue
    assert p == pytest.approx(max(2 * stats.page_trend_test(table).pvalue, students))
    assert statistics.trend_p(table + 100 * RNG.normal(size=(16, 1))) == pytest.approx(p)
    assert statistics.trend_p(-table) == 1
    expected = [stats.spearmanr(row, range(5)).statistic for row in table]
    assert statistics.rank_correlations(table) == pytest.approx(expected)
    assert list(statistics.rank_correlations([[1, 1, 1], [1, 2, 3], [3, 2, 1]])) == [0, 1, -1]


def test_holm_as_worked_out_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.6]) == [1, 1]
    assert statistics.holm([]) == []


def test_power_is_what_simulation_finds():
    """The number of seeds that are needed is its inverse."""
    draws = np.random.default_rng(1).normal(0.1, 0.2, (20000, 16))
    t = draws.mean(1) / (draws.std(1, ddof=1) / 4)
    assert statistics.power(0.1, 0.2, 16) == pytest.approx((t > stats.t.ppf(0.975, 15)).mean(), abs=0.01)
    n = statistics.seeds_needed([0.1], 0.2)
    assert statistics.power(0.1, 0.2, n - 1) < 0.8 <= statistics.power(0.1, 0.2, n)
    assert statistics.seeds_needed([0.1, 9], 0.2) == n < statistics.seeds_needed([0.1, 0.1], 0.2)
    assert statistics.seeds_needed([0], 0.2, most=1000) == statistics.seeds_needed([1e-9], 0.2, most=1000) == 1000
