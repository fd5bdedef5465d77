"""The results of a study as one table: the names of its conditions, what varied, and differences seed by seed.

Reading files is in `alignsim.analysis.load`, averaging in `alignsim.analysis.summary`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from alignsim.config.settings import BASELINE
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.storage.versions import CODE, CONDITION
from alignsim.runs.text import counted

#: The key that makes generating a good response harder than verifying one.
COMPLEXITY_KEY = "env.complexity_factor"

#: The key of the weight of the KL term.
BETA = "beta"

#: From so many methods on, figures rank them.
MANY_METHODS = 4

#: A study in which some method has so many combinations of two or more of its settings is a search for the best.
FEWEST_TRIALS = 5

#: At most so many conditions are listed whose seeds diverged.
_MOST_LEFT_OUT = 6

#: The columns that say which seed of which condition a row is, and the two that name where and what was compared.
LABELS = ("method", "env", "seed")
NAMES = ("setting", "variant")

#: The column that names the folder a row was read from.
RUN = "run"


@dataclass(frozen=True)
class Study:
    """The finished conditions of a study, one row for each condition and seed.

    Attributes:
        name: the folder's name.
        rows: the seeds whose training did not diverge, with the columns of `results.csv` (method, env, seed, every
            measure and the condition's values under dotted keys) and three more. `setting` names the environment and
            whatever else varies for all methods alike; methods are compared within a setting. `variant` names the
            method and what varies in it alone. `run` names the folder.
        warnings: what was left out and why, one line each.
        diverged: the seeds whose training diverged, with the columns of `rows`; they are in no mean and no figure.
        folder: where the study was read from; None for rows that are not from files and have no training curves.
        baseline: the method with which every other one is compared.
    """

    name: str
    rows: pd.DataFrame
    warnings: list[str]
    diverged: pd.DataFrame = field(default_factory=pd.DataFrame)
    folder: Path | None = None
    baseline: str = BASELINE

    @cached_property
    def all_rows(self) -> pd.DataFrame:
        """The rows of all seeds, diverged ones included."""
        return pd.concat([self.rows, self.diverged]) if len(self.diverged) else self.rows

    @cached_property
    def varied(self) -> list[str]:
        """The dotted keys whose value differs between conditions."""
        return varied_keys(self.all_rows)

    @cached_property
    def shared(self) -> list[str]:
        """The varied keys that tell settings apart: see `shared_keys`."""
        return shared_keys(self.all_rows)

    @cached_property
    def searched(self) -> list[str]:
        """The dotted keys of methods' own settings that a search varied together; none where the study is no search."""
        keys = [key for key in self.varied if key.startswith("method.")]
        if len(keys) < 2:
            return []
        trials = self.all_rows.drop_duplicates(["method", *keys]).groupby("method").size()
        return keys if trials.max() >= FEWEST_TRIALS else []

    @cached_property
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs (variant, variant of the baseline) to compare.

        There are none where a search made many variants of both, whose settings have nothing to do with each other.
        """
        names = self.rows[["method", "variant"]].drop_duplicates().sort_values("variant")
        baseline = list(names.variant[names.method == self.baseline])
        if self.searched and len(baseline) > 1:
            return []
        return [(variant, b) for variant in names.variant[names.method != self.baseline] for b in baseline]

    @cached_property
    def left_out(self) -> str:
        """How many seeds of each variant and setting diverged, in words; empty where none did."""
        if self.diverged.empty:
            return ""
        counts = self.diverged.groupby(["variant", "setting"], as_index=False).seed.nunique()
        columns = (counts[name] for name in ("seed", "variant", "setting"))
        parts = [f"{counted(n, 'seed')} of {flat(v)} in {flat(s)}" for n, v, s in zip(*columns, strict=True)]
        more = len(parts) - _MOST_LEFT_OUT
        shown = "; ".join(parts[:_MOST_LEFT_OUT] + [f"and {counted(more, 'more condition')}"] * (more > 0))
        return f"Left out because their training diverged: {shown}."


def condition_keys(rows: pd.DataFrame) -> list[str]:
    """Returns the columns of a table of rows that are dotted keys of conditions."""
    others = {*LABELS, *MEASURES, *DIVERGED, *NAMES, RUN, CONDITION, CODE}
    return [column for column in rows.columns if column not in others]


def varied_keys(rows: pd.DataFrame) -> list[str]:
    """Returns the dotted keys of conditions whose value differs between rows, where no value differs from any value.

    A value that a method has in all its rows, such as its own learning rate, belongs to the method and does not vary.
    Networks of different classes have different keys and sizes; then only the key of their class varies.
    """
    keys = [key for key in condition_keys(rows) if not key.endswith("_target_") or _is_nested(key)]
    within = rows.groupby("method")[keys].nunique(dropna=False).gt(1).any()
    between = [key for key in keys if rows[key].nunique() > 1 and not key.startswith("method.")]
    varied = [key for key in keys if within[key] or key in between]
    return [key for key in varied if _differs_within_its_class(rows, key)]


def _is_nested(target: str) -> bool:
    """Whether a key names the class of a part, such as `model.policy._target_`; a whole group is known by its name."""
    return target.count(".") > 1


def _differs_within_its_class(rows: pd.DataFrame, key: str) -> bool:
    """Whether a key varies among rows in which the part that it belongs to has the same class."""
    target = f"{key.rpartition('.')[0]}._target_"
    if target == key or not _is_nested(target) or target not in rows or rows[target].nunique(dropna=False) == 1:
        return True
    within = rows.groupby([target, "method"])[key].nunique(dropna=False).gt(1).any()
    return bool(within or rows.groupby(target)[key].nunique().gt(1).any())


def shared_keys(rows: pd.DataFrame) -> list[str]:
    """Returns the varied keys that tell settings apart; the others tell variants of a method apart.

    A key of the world or the objective always tells settings apart. A key of the method or of its models does if every
    method was run at the same values of it, as in a sweep; otherwise it is part of the method.
    """
    return [key for key in varied_keys(rows) if not key.startswith(("method.", "model.")) or _is_crossed(rows, key)]


def _is_crossed(rows: pd.DataFrame, key: str) -> bool:
    """Whether every method was run at the same values of a key."""
    values = [frozenset(members[key].dropna()) for _, members in rows.groupby("method")]
    return len(set(values)) == 1


def name_settings_and_variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the columns `setting` and `variant`, in whose names every part is a line."""
    shared = shared_keys(rows)
    setting, variant = rows.env.astype(str), rows.method.astype(str)
    for key in varied_keys(rows):
        if key in shared:
            # the environment's name covers what does not vary inside it; the complexity factor is always shown
            is_named = rows.groupby("env")[key].transform(_count).gt(1) | (key == COMPLEXITY_KEY)
            setting = setting + _lines(rows[key], key).where(is_named & rows[key].notna(), "")
        else:
            variant = variant + _lines(rows[key], key).where(rows[key].notna(), "")
    return rows.assign(setting=setting, variant=variant)


def _count(values: pd.Series) -> int:
    """The number of different values, where missing is one of them."""
    return values.nunique(dropna=False)


def _lines(values: pd.Series, key: str) -> pd.Series:
    """A line for each value of a key, such as `n_pairs 4000`, with a line break before it."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        values = values.map("{:g}".format)
    if key.endswith("_target_"):
        values = values.str.rpartition(".")[2]
    return f"\n{name_of_key(key)} " + values.astype(str)


def name_of_key(key: str) -> str:
    """Returns the name of a dotted key for people, such as `n_pairs`."""
    key = key.removesuffix("._target_")
    if key.startswith("evaluation."):  # `pairs` alone would be taken for the training pairs
        return key
    return key.rpartition(".")[2].replace("_", " ") if key == COMPLEXITY_KEY else key.partition(".")[2] or key


def paired_differences(study: Study, variant: str, baseline: str) -> pd.DataFrame:
    """Returns the differences of every measure between two variants, seed by seed in the same setting.

    They are the rows of `variant` whose setting and seed the baseline has too, with differences in place of measures.
    """
    key = ["setting", *study.shared, "seed"]
    rows = study.rows.drop_duplicates(["variant", *key])
    left = rows[rows.variant == variant]
    right = rows.loc[rows.variant == baseline, [*key, *MEASURES]]
    joined = left.merge(right, on=key, suffixes=("", "_baseline"))
    for name in MEASURES:
        joined[name] = joined[name] - joined.pop(f"{name}_baseline")
    return joined


def flat(variant: str) -> str:
    """Returns the name of a variant or setting on one line."""
    return ", ".join(variant.splitlines())
