"""From the folders of a study to the numbers of its figures: what varied, means with intervals, paired advantages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from alignsim.evaluation.measures import MEASURES
from alignsim.results import RESULTS, STATUS

#: The method that every other one is compared with.
BASELINE = "dpo"

#: The key that makes generating harder than verifying.
KNOB = "env.complexity_factor"

#: Columns that say which seed of which condition a row is, and the two that are made from them.
LABELS = ("method", "env", "seed")
NAMES = ("setting", "variant")


class Interval(NamedTuple):
    """A mean over n seeds with its two-sided 95 % Student t interval; the ends are NaN for a single seed."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def lead(self) -> int | None:
        """1 where the whole interval is above 0, -1 where it is below, 0 where it holds 0; None for one seed."""
        return int(self.low > 0) - int(self.high < 0) if self.n > 1 else None


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series) -> Interval:
    """Mean and 95 % t interval over seeds."""
    sample = np.asarray(values, dtype=float)
    if not len(sample):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf(0.975, n - 1) * sample.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Study:
    """The finished conditions of a study, one row for each condition and seed.

    Attributes:
        name: the folder's name.
        rows: method, env, seed, every measure and the condition's values under dotted keys, as in `results.csv`.
            Two columns are added: `setting` names the environment and whatever else varies for all methods alike,
            `variant` names the method and what varies in it alone. Methods are compared within a setting.
        complaints: what was left out and why, one line each.
    """

    name: str
    rows: pd.DataFrame
    complaints: list[str]

    @cached_property
    def varied(self) -> list[str]:
        """The dotted keys whose value differs between conditions."""
        return varied_keys(self.rows)

    @cached_property
    def shared(self) -> list[str]:
        """The varied keys that tell settings apart, see `shared_keys`."""
        return shared_keys(self.rows)

    @cached_property
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs of variants to compare: every one of another method with every one of the baseline."""
        names = self.rows[["method", "variant"]].drop_duplicates().sort_values("variant")
        baseline = list(names.variant[names.method == BASELINE])
        return [(variant, b) for variant in names.variant[names.method != BASELINE] for b in baseline]


def varied_keys(rows: pd.DataFrame) -> list[str]:
    """The dotted keys of conditions whose value differs between rows; a value against none differs too.

    That a method lacks a key of another method's, such as `method.rl.steps`, is no difference.
    """
    keys = [c for c in rows.columns if c not in (*LABELS, *MEASURES, *NAMES) and not c.endswith("_target_")]
    within = rows.groupby("method")[keys].nunique(dropna=False).gt(1).any()
    return [key for key in keys if within[key] or rows[key].nunique() > 1]


def shared_keys(rows: pd.DataFrame) -> list[str]:
    """The varied keys that tell settings apart; the others tell variants of a method apart.

    What belongs to the world or the objective always makes a setting. A knob of the method or of its models does
    where every method was run at the same values of it, as in a sweep; where they differ, it is part of the method.
    """
    return [key for key in varied_keys(rows) if not key.startswith(("method.", "model.")) or _is_crossed(rows, key)]


def _is_crossed(rows: pd.DataFrame, key: str) -> bool:
    values = [frozenset(members[key].dropna()) for _, members in rows.groupby("method")]
    return len(set(values)) == 1


def name_settings_and_variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `setting` and `variant`; their parts stand on lines of their own."""
    shared = shared_keys(rows)
    setting, variant = rows.env.astype(str), rows.method.astype(str)
    for key in varied_keys(rows):
        if key in shared:
            # the environment's name stands for whatever does not vary inside it, but the knob is always shown
            told = rows.groupby("env")[key].transform(_count).gt(1) | (key == KNOB)
            setting = setting + _lines(rows[key], key).where(told, "")
        else:
            variant = variant + _lines(rows[key], key).where(rows[key].notna(), "")
    return rows.assign(setting=setting, variant=variant)


def _count(values: pd.Series) -> int:
    """How many different values there are, a missing one among them."""
    return values.nunique(dropna=False)


def _lines(values: pd.Series, key: str) -> pd.Series:
    """For each value a new line with its name, such as `n_pairs 4000`."""
    short = key.rpartition(".")[2].replace("_", " ") if key == KNOB else key.partition(".")[2] or key
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        values = values.map("{:g}".format)
    return f"\n{short} " + values.astype(str)


def load_study(folder: Path) -> Study:
    """Read every finished condition below a study's folder; damaged or unfinished ones become complaints."""
    tables, complaints = [], []
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            table = _read_run(run)
        except _LeftOutError as reason:
            complaints.append(f"{reason}, left out")
            continue
        finite = np.isfinite(table.normalized_value)
        if not finite.all():
            count = f"{(~finite).sum()} of {len(table)} seeds"
            complaints.append(f"{run.name}: {count} have no finite value (diverged), left out of every mean")
        tables.append(table[finite])
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*LABELS, *MEASURES])
    rows = rows.assign(setting="", variant="") if rows.empty else name_settings_and_variants(rows)
    doubled = rows[rows.duplicated([*NAMES, "seed"])]
    for variant, setting in doubled[["variant", "setting"]].drop_duplicates().itertuples(index=False):
        complaints.append(f"{flat(variant)} in {flat(setting)}: several conditions have this name, only one is drawn")
    return Study(folder.name, rows.drop(index=doubled.index), complaints)


class _LeftOutError(Exception):
    """A condition that has no finished, whole results; the text says why."""


def _read_run(run: Path) -> pd.DataFrame:
    """The results of one condition, every column that must be a number made one."""
    status, results = run / STATUS, run / RESULTS
    try:
        state = json.loads(status.read_text(encoding="utf-8"))["state"]
    except FileNotFoundError:
        raise _LeftOutError(f"{run}: holds no {STATUS}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _LeftOutError(f"{status}: cannot be read ({error})") from error
    if state != "finished":
        raise _LeftOutError(f"{run.name}: {state}")
    try:
        table = pd.read_csv(results, encoding="utf-8", dtype={"method": str, "env": str})
        numbers = ["seed", *MEASURES, *({KNOB} & set(table.columns))]
        return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})
    except KeyError as error:
        raise _LeftOutError(f"{results}: cannot be read (the column {error} is missing)") from error
    except (OSError, ValueError, TypeError) as error:
        raise _LeftOutError(f"{results}: cannot be read ({error})") from error


def paired(study: Study, variant: str, baseline: str) -> pd.DataFrame:
    """Differences of every measure between two variants, seed by seed in the same setting.

    Returns:
        The rows of `variant` whose setting and seed the baseline has too, measures replaced by differences.
    """
    key = ["setting", *study.shared, "seed"]
    rows = study.rows.drop_duplicates(["variant", *key])
    left = rows[rows.variant == variant]
    right = rows.loc[rows.variant == baseline, [*key, *MEASURES]]
    joined = left.merge(right, on=key, suffixes=("", "_baseline"))
    for name in MEASURES:
        joined[name] = joined[name] - joined.pop(f"{name}_baseline")
    return joined


def summary(study: Study) -> pd.DataFrame:
    """One row for each condition, and one for each paired difference (method `rlhf - dpo`).

    For every measure the mean over seeds and its 95 % t interval, in the columns `m`, `m_low` and `m_high`.
    """
    tables = [study.rows]
    for variant, baseline in study.comparisons:
        table = paired(study, variant, baseline)
        tables.append(table.assign(method=f"{flat(variant)} - {flat(baseline)}"))
    keys = ["method", "env", *study.varied]
    groups = pd.concat(tables, ignore_index=True).groupby(keys, dropna=False, sort=True)
    return pd.DataFrame([_summary_row(keys, group, rows) for group, rows in groups])


def flat(variant: str) -> str:
    """The name of a variant or setting on one line."""
    return ", ".join(variant.splitlines())


def _summary_row(keys: list[str], group: tuple[object, ...], rows: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = dict(zip(keys, group, strict=True)) | {"seeds": len(rows)}
    for name in MEASURES:
        mean, low, high, _ = mean_interval(rows[name])
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return row
