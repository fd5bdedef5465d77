"""From the folders of a study to the numbers of its figures: what varied, means with intervals, paired advantages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from alignsim.evaluation.measures import MEASURES
from alignsim.results import RESULTS, STATUS

#: The method that every other one is compared with.
BASELINE = "dpo"

#: Columns that say which seed of which condition a row is.
LABELS = ("method", "env", "seed")


class Interval(NamedTuple):
    """A mean over n seeds with its two-sided 95 % Student t interval; the ends are NaN for a single seed."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series) -> Interval:
    """Mean and 95 % t interval over seeds."""
    sample = np.asarray(values, dtype=float)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf(0.975, n - 1) * sample.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Study:
    """The finished conditions of a study.

    Attributes:
        name: the folder's name.
        rows: one row for each condition and seed: method, env, seed, every measure, and the condition's values under
            dotted keys.
        complaints: what was left out and why, one line each.
    """

    name: str
    rows: pd.DataFrame
    complaints: list[str]

    @property
    def varied(self) -> list[str]:
        """The dotted keys whose value differs between conditions that have them."""
        keys = [c for c in self.rows.columns if c not in MEASURES and c not in LABELS and "_target_" not in c]
        return [key for key in keys if self.rows[key].nunique() > 1]


def load_study(folder: Path) -> Study:
    """Read every finished condition below a study's folder; damaged or unfinished ones become complaints."""
    tables, complaints = [], []
    for status_file in sorted(folder.glob(f"*/{STATUS}")):
        try:
            state = json.loads(status_file.read_text(encoding="utf-8"))["state"]
            if state != "finished":
                complaints.append(f"{status_file.parent.name}: {state}, left out")
                continue
            tables.append(_read_results(status_file.parent / RESULTS))
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged = status_file.parent / RESULTS if isinstance(error, _DamagedError) else status_file
            complaints.append(f"{damaged}: cannot be read, left out ({error})")
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*LABELS, *MEASURES])
    return Study(folder.name, rows, complaints)


class _DamagedError(ValueError):
    """A file of results that is not what it should be."""


def _read_results(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, encoding="utf-8", dtype={"method": str, "env": str})
    except (OSError, ValueError) as error:
        raise _DamagedError(str(error)) from error
    missing = [column for column in (*LABELS, *MEASURES) if column not in table.columns]
    if missing:
        raise _DamagedError(f"columns are missing: {', '.join(missing)}")
    numbers = table[["seed", *MEASURES]].apply(pd.to_numeric, errors="coerce")
    if table.empty or numbers[["seed", "normalized_value"]].isna().any(axis=None):
        raise _DamagedError("rows are incomplete")
    return table


def settings_keys(study: Study, methods: Iterable[str]) -> list[str]:
    """The varied keys that tell settings apart in which all these methods can be compared.

    A key that only some of the methods have (`method.rl.steps`) says nothing about the others and is left out.
    """
    by_method = [study.rows[study.rows.method == method] for method in methods]
    return [key for key in study.varied if all(rows[key].notna().any() for rows in by_method)]


def advantage_pairs(study: Study) -> list[tuple[str, str]]:
    """The pairs of methods to compare: every other one with the baseline, if the study has it."""
    methods = sorted(study.rows.method.unique())
    return [(m, BASELINE) for m in methods if m != BASELINE] if BASELINE in methods else []


def paired(study: Study, method: str, baseline: str, measure: str = "normalized_value") -> pd.DataFrame:
    """Differences of a measure between two methods, seed by seed in the same setting.

    Returns:
        The columns env, every varied key of the method, seed and `difference`.
    """
    shared = ["env", *settings_keys(study, [method, baseline]), "seed"]
    own = [key for key in study.varied if key not in shared]
    columns = list(dict.fromkeys([*shared, *own, measure]))
    left = study.rows.loc[study.rows.method == method, columns].drop_duplicates()
    right = study.rows.loc[study.rows.method == baseline, [*shared, measure]].drop_duplicates()
    joined = left.merge(right, on=shared, suffixes=("", "_baseline"))
    joined["difference"] = joined[measure] - joined[f"{measure}_baseline"]
    return joined[[*shared, *own, "difference"]]


def summary(study: Study) -> pd.DataFrame:
    """One row for each condition, and one for each paired advantage (method `rlhf - dpo`).

    For every measure the mean over seeds and its 95 % t interval, in the columns `m`, `m_low` and `m_high`.
    """
    keys = ["env", *study.varied]
    parts = [_with_intervals(study.rows, ["method", *keys], list(MEASURES))]
    for method, baseline in advantage_pairs(study):
        differences = [paired(study, method, baseline, m).rename(columns={"difference": m}) for m in MEASURES]
        table = differences[0].assign(**{m: d[m] for m, d in zip(MEASURES, differences, strict=True)})
        table.insert(0, "method", f"{method} - {baseline}")
        parts.append(_with_intervals(table, ["method", *keys], list(MEASURES)))
    return pd.concat(parts, ignore_index=True)


def _with_intervals(rows: pd.DataFrame, keys: list[str], measures: list[str]) -> pd.DataFrame:
    table = []
    for group, members in rows.groupby(keys, dropna=False, sort=True):
        members = members.drop_duplicates("seed")
        row = dict(zip(keys, group, strict=True)) | {"seeds": len(members)}
        for name in measures:
            mean, low, high, _ = mean_interval(members[name])
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        table.append(row)
    return pd.DataFrame(table, columns=None if table else [*keys, "seeds", *measures])
