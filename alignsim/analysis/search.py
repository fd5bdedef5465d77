"""Which settings suit each method best, where a study tried several at once: all trials in order, and the best as YAML.

A trial is one combination of a method's own settings. Its value is the mean over all worlds in which it was run: over
environments and whatever else varied for all methods alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import yaml

from alignsim.analysis.statistics import Interval, mean_intervals
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY
from alignsim.runs.text import format_seed_ranges

_ENDS = (PRIMARY, f"{PRIMARY}_low", f"{PRIMARY}_high")


def trials(study: Study) -> pd.DataFrame:
    """Returns every trial of a search, the best of each method first; an empty table where the study is no search.

    The columns are `method`; `rank`, from 1, NaN for a trial that cannot be chosen because seeds of it diverged or are
    missing; `trials`, how many its method has; `seeds`, how many finished in every world; `diverged`, how many runs
    did; `normalized_value`, the mean over worlds and seeds, with the ends of its 95 % interval in `..._low` and
    `..._high`; and the settings under dotted keys, NaN where the method has none.
    """
    keys = study.searched
    if not keys:
        return pd.DataFrame()
    worlds = ["env", *(key for key in study.shared if not key.startswith("method."))]
    rows = study.all_rows.drop_duplicates(["method", *keys, *worlds, "seed"])
    rows = rows.assign(trial=rows.groupby(["method", *keys], dropna=False, sort=False).ngroup())
    rows["lost"] = rows.index.isin(study.diverged.index)
    table = rows.drop_duplicates("trial").set_index("trial")[["method", *keys]]
    intervals = _trial_intervals(rows, len(rows[worlds].drop_duplicates()))
    without = Interval(np.nan, np.nan, np.nan, 0)
    ordered = [intervals.get(trial, without) for trial in table.index]
    table = table.assign(
        seeds=[interval.n for interval in ordered],
        diverged=rows.groupby("trial").lost.sum(),
        **{name: [interval[i] for interval in ordered] for i, name in enumerate(_ENDS)},
    )
    complete = table[(table.seeds == rows.seed.nunique()) & (table.diverged == 0)]
    table["rank"] = complete.groupby("method")[PRIMARY].rank(ascending=False, method="first")
    table["trials"] = table.groupby("method").method.transform("size")
    columns = ["method", "rank", "trials", "seeds", "diverged", *_ENDS, *keys]
    return table.sort_values(["method", "rank"])[columns].reset_index(drop=True)


def _trial_intervals(rows: pd.DataFrame, n_worlds: int) -> dict[Any, Interval]:
    """The mean value of each trial over the seeds that finished in every world, and its interval."""
    finite = rows[~rows.lost & np.isfinite(rows[PRIMARY].astype(float))]
    by_seed = finite.groupby(["trial", "seed"])[PRIMARY].agg(["mean", "size"])
    in_every_world = by_seed["mean"][by_seed["size"] == n_worlds]
    groups = in_every_world.groupby("trial")
    return {trial: mean_intervals(values.to_numpy()[None])[0] for trial, values in groups}


def best_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the best trial of each method, the best method first."""
    return table[table["rank"] == 1].sort_values(PRIMARY, ascending=False)


def tuned_yaml(study: Study, table: pd.DataFrame, command: str) -> str:
    """Returns the best settings of each method as YAML, a block for each file in conf/method.

    Args:
        study: a search.
        table: its trials.
        command: that trained it, as the user types it; empty where it is unknown.
    """
    seeds = format_seed_ranges(sorted(map(int, study.all_rows.seed.unique())))
    lines = ["# The best settings of each method: for conf/method/<name>.yaml"]
    lines += [f"#   chosen by: {command}"] * bool(command)
    lines += [f"#   by the mean normalized value in {', '.join(sorted(study.all_rows.env.unique()))}, seeds {seeds}"]
    for row in records(best_trials(table).sort_values("method")):
        text = yaml.safe_dump({row["method"]: _nested(settings_of_trial(row))}, sort_keys=False, allow_unicode=True)
        first, _, rest = text.partition("\n")
        lines.append(f"{first}  # best of {row['trials']} trials: {trial_interval(row)}\n{rest.rstrip()}")
    return "\n".join(lines) + "\n"


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings below `method.` as nested mappings."""
    block: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, name = key.split(".")[1:]
        inner = block
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return block


def trial_interval(row: Mapping[str, Any]) -> Interval:
    """Returns the mean value of a trial and its interval, from its row as a mapping."""
    mean, low, high = (row[name] for name in _ENDS)
    return Interval(mean, low, high, row["seeds"])


def settings_of_trial(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a trial set, under dotted keys, from its row as a mapping."""
    return {key: _plain(value) for key, value in row.items() if key.startswith("method.") and value == value}


def _plain(value: Any) -> Any:
    """A value as YAML has it: a whole number is a float in a column in which some methods have none."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a table as mappings from the names of its columns."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
