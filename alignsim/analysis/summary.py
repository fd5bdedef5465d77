"""The summary of a study: the mean of every measure of every condition, and of every paired difference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from alignsim.analysis.statistics import interquartile_mean, mean_intervals
from alignsim.analysis.study import Study, flat, paired_differences
from alignsim.evaluation.measures import MEASURES

#: The measure that figures and tables show first.
PRIMARY = "normalized_value"


def summarize(study: Study) -> pd.DataFrame:
    """Returns one row for each condition, and one for each paired difference (method `rlhf - dpo`).

    The columns are `method`, `env` and the keys that varied; `seeds`, behind the means; `diverged`, seeds that are in
    no mean; and for every measure `m` its mean over seeds with the ends of its 95 % BCa bootstrap interval, in `m`,
    `m_low` and `m_high`, in the units of the measure. Of the normalized value there is the interquartile mean too.
    """
    rows = _rows_to_summarize(study)
    groups = rows.groupby(["method", "env", *study.varied], dropna=False, sort=True)
    table = groups.left_out.agg(diverged="sum", seeds="size").reset_index()
    table["seeds"] -= table.diverged
    ends, middle = _means(rows.assign(group=groups.ngroup())[~rows.left_out], len(table))
    keys = ["method", "env", *study.varied, "seeds", "diverged"]
    parts = {f"{name}{end}": ends[name][i] for name in MEASURES for i, end in enumerate(("", "_low", "_high"))}
    table = table[keys].assign(**parts)
    table.insert(len(keys) + 3, f"{PRIMARY}_interquartile_mean", middle)
    return table


def _rows_to_summarize(study: Study) -> pd.DataFrame:
    """The rows of every condition and difference; `left_out` says which are of seeds that diverged."""
    tables = [study.rows.assign(left_out=False), _without_numbers(study.diverged)]
    for variant, baseline in study.comparisons:
        name = f"{flat(variant)} - {flat(baseline)}"
        tables.append(paired_differences(study, variant, baseline).assign(method=name, left_out=False))
        if len(study.diverged):
            lost = study.diverged.loc[study.diverged.variant.isin([variant, baseline]), ["setting", "seed"]]
            own = study.all_rows[study.all_rows.variant == variant].drop_duplicates("setting").drop(columns="seed")
            tables.append(_without_numbers(own.merge(lost.drop_duplicates(), on="setting")).assign(method=name))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _without_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of diverged seeds: they are counted, and their measures are not used."""
    return rows.assign(**dict.fromkeys(MEASURES, np.nan), left_out=True)


def _means(rows: pd.DataFrame, n_groups: int) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """Means over the seeds of each group, NaN for a group without rows.

    Groups with equally many seeds are computed together, which is many times faster than one by one.

    Returns:
        For each measure mean, low and high end, (3, groups); and the interquartile mean of the primary one, (groups,).
    """
    ends = {name: np.full((3, n_groups), np.nan) for name in MEASURES}
    middle = np.full(n_groups, np.nan)
    ordered = rows.sort_values("group", kind="stable")
    sizes = ordered.groupby("group").size()
    for size in sizes.unique():
        chosen = sizes.index[sizes == size].to_numpy()
        members = ordered[ordered.group.isin(chosen)]
        for name in MEASURES:
            values = members[name].to_numpy().reshape(len(chosen), size)
            ends[name][:, chosen] = np.array([interval[:3] for interval in mean_intervals(values)]).T
        values = members[PRIMARY].to_numpy().reshape(len(chosen), size)
        middle[chosen] = [interquartile_mean(row) for row in values]
    return ends, middle
