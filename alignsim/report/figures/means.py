"""Means over seeds with their intervals, of many groups of rows at once, and means of paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from alignsim.analysis.statistics import Interval, mean_intervals
from alignsim.analysis.study import Study, paired_differences
from alignsim.analysis.summary import PRIMARY

#: The columns that `means` makes.
ENDS = ("mean", "low", "high", "n")

#: Comparisons of more pairs of variants are not drawn.
MOST_COMPARISONS = 30


def means(rows: pd.DataFrame, by: Sequence[str], measure: str = PRIMARY) -> pd.DataFrame:
    """Returns the mean over seeds of each group and its 95 % interval.

    Args:
        rows: a table with a column `seed`. A seed counts once in each group; one whose measure is unknown does not.
        by: the columns whose values make a group, at least one.
        measure: the column to average.

    Returns:
        One row for each group, sorted by `by`, with the columns `ENDS`, which are the fields of an `Interval`.
    """
    finite = rows[np.isfinite(rows[measure].astype(float))].drop_duplicates([*by, "seed"]).sort_values("seed")
    groups = finite.groupby(list(by), dropna=False, sort=True)
    table = groups.size().reset_index(name="n")
    numbers = groups.ngroup().to_numpy()
    values = finite[measure].to_numpy(dtype=float)[np.argsort(numbers, kind="stable")]
    starts = np.cumsum(table.n.to_numpy()) - table.n.to_numpy()
    ends = np.full((len(table), 3), np.nan)
    for size in table.n.unique():
        chosen = np.flatnonzero(table.n == size)
        samples = values[starts[chosen, None] + np.arange(size)]
        ends[chosen] = [interval[:3] for interval in mean_intervals(samples)]
    return table.assign(mean=ends[:, 0], low=ends[:, 1], high=ends[:, 2])


def intervals(table: pd.DataFrame) -> list[Interval]:
    """Returns the rows of a table that `means` made, as intervals."""
    columns = (table[name] for name in ENDS)
    return [Interval(mean, low, high, int(n)) for mean, low, high, n in zip(*columns, strict=True)]


def error_bars(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Returns how far each interval reaches below and above its mean, (2, rows); 0 for a single seed."""
    ends: npt.NDArray[np.float64] = np.array([table["mean"] - table.low, table.high - table["mean"]])
    return np.nan_to_num(ends).clip(0)


def advantages(study: Study, by: Sequence[str]) -> dict[tuple[str, str], pd.DataFrame]:
    """Returns the mean paired advantage of each pair of variants that share seeds; none of too many pairs."""
    pairs = study.comparisons if len(study.comparisons) <= MOST_COMPARISONS else []
    tables = {pair: means(paired_differences(study, *pair), by) for pair in pairs}
    return {pair: table for pair, table in tables.items() if len(table)}
