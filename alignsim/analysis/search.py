"""Which settings suit each method best, where a study tried several at once: all trials in order, and the best as YAML.

A trial is one combination of a method's own settings, wherever it was run; its value is the mean over all places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import yaml

from alignsim.analysis.statistics import Interval, mean_intervals
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY
from alignsim.runs.text import format_seed_ranges


def trials(study: Study) -> pd.DataFrame:
    """Every trial of a search, the best of each method first.

    Returns:
        The columns method; rank, from 1, NaN for a trial that cannot be chosen because seeds of it diverged or are not
        there yet; trials, of its method; seeds, that are there in every place; diverged; `normalized_value`, its mean
        over places and seeds, with the ends of its 95 % interval; and the settings, NaN where the method has none.
        Empty where the study is no search.
    """
    keys = study.searched
    if not keys:
        return pd.DataFrame()
    places = ["env", *(key for key in study.shared if not key.startswith("method."))]
    rows = study.all_rows.drop_duplicates(["method", *keys, *places, "seed"])
    n_places, n_seeds = len(rows[places].drop_duplicates()), rows.seed.nunique()
    rows = rows.assign(trial=rows.groupby(["method", *keys], dropna=False, sort=False).ngroup())
    rows["lost"] = rows.index.isin(study.diverged.index)
    found = rows.drop_duplicates("trial").set_index("trial")[["method", *keys]]
    kept = rows[~rows.lost & np.isfinite(rows[PRIMARY].astype(float))]
    by_seed = kept.groupby(["trial", "seed"])[PRIMARY].agg(["mean", "size"])
    everywhere = by_seed["mean"][by_seed["size"] == n_places]
    ends = {trial: mean_intervals(values.to_numpy()[None])[0] for trial, values in everywhere.groupby("trial")}
    intervals = [ends.get(trial, Interval(np.nan, np.nan, np.nan, 0)) for trial in found.index]
    found = found.assign(
        seeds=[interval.n for interval in intervals],
        diverged=rows.groupby("trial").lost.sum(),
        **{f"{PRIMARY}{end}": [interval[i] for interval in intervals] for i, end in enumerate(("", "_low", "_high"))},
    )
    whole = found[(found.seeds == n_seeds) & (found.diverged == 0)]
    found["rank"] = whole.groupby("method")[PRIMARY].rank(ascending=False, method="first")
    found["trials"] = found.groupby("method").method.transform("size")
    measured = ["method", "rank", "trials", "seeds", "diverged", PRIMARY, f"{PRIMARY}_low", f"{PRIMARY}_high"]
    return found.sort_values(["method", "rank"])[[*measured, *keys]].reset_index(drop=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The best trial of each method, the best method first."""
    return table[table["rank"] == 1].sort_values(PRIMARY, ascending=False)


def tuning_text(table: pd.DataFrame) -> str:
    """The best trials for the screen, and the methods that have none."""
    width = table.method.str.len().max()
    lines = [
        f"{row['method']:<{width}}   best of {row['trials']}: {interval_of(row)!s:<22}   "
        + "  ".join(f"{key.removeprefix('method.')}={value}" for key, value in _settings(row).items())
        for row in _records(best(table))
    ]
    none = sorted(set(table.method) - set(best(table).method))
    lines += [f"no trial of {', '.join(none)} has all its seeds"] * bool(none)
    return "\n".join(lines)


def tuned_yaml(study: Study, table: pd.DataFrame, command: str) -> str:
    """The best settings of each method as YAML, a block for each file in conf/method.

    Args:
        study: a search.
        table: its trials.
        command: that trained it, as the user types it; empty where nobody knows.
    """
    seeds = format_seed_ranges(sorted(map(int, study.all_rows.seed.unique())))
    lines = ["# What suits each method best: for conf/method/<name>.yaml"]
    lines += [f"#   chosen by: {command}"] * bool(command)
    lines += [f"#   by the mean normalized value in {', '.join(sorted(study.all_rows.env.unique()))}, seeds {seeds}"]
    for row in _records(best(table).sort_values("method")):
        block: dict[str, Any] = {}
        for key, value in _settings(row).items():
            *parents, name = key.split(".")[1:]
            inner = block
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[name] = value
        text = yaml.safe_dump({row["method"]: block}, sort_keys=False, allow_unicode=True)
        first, _, rest = text.partition("\n")
        lines.append(f"{first}  # best of {row['trials']} trials: {interval_of(row)}\n{rest.rstrip()}")
    return "\n".join(lines) + "\n"


def interval_of(row: dict[str, Any]) -> Interval:
    """The mean value of a trial and its interval."""
    return Interval(row[PRIMARY], row[f"{PRIMARY}_low"], row[f"{PRIMARY}_high"], row["seeds"])


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    """What a trial set, under dotted keys."""
    return {key: _plain(value) for key, value in row.items() if key.startswith("method.") and value == value}


def _plain(value: Any) -> Any:
    """A value as YAML has it: whole numbers came as others where some methods have none."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
