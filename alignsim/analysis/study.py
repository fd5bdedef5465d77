"""The results of a study as one table: what its conditions are called, what varied, differences seed by seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from alignsim.config.settings import BASELINE
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.storage.versions import CODE, CONDITION

#: The key that makes generating harder than verifying.
COMPLEXITY_KEY = "env.complexity_factor"

#: The key that weighs the KL term.
BETA = "beta"

#: From so many methods on, figures rank them.
MANY_METHODS = 4

#: From so many combinations of two or more settings of a method on, a study is a search for the best.
FEWEST_TRIALS = 5

#: Columns that say which seed of which condition a row is, and the two that are made from them.
LABELS = ("method", "env", "seed")
NAMES = ("setting", "variant")

#: The column that names the folder a row was read from.
RUN = "run"


@dataclass(frozen=True)
class Study:
    """The finished conditions of a study, one row for each condition and seed.

    Attributes:
        name: the folder's name.
        rows: of the seeds whose training did not diverge: method, env, seed, every measure and the condition's values
            under dotted keys, as in `results.csv`. Columns are added: `setting` names the environment and
            whatever else varies for all methods alike, `variant` names the method and what varies in it alone.
            Methods are compared within a setting. `run` names the folder.
        warnings: what was left out and why, one line each.
        diverged: the same columns of the seeds whose training diverged, which are in no mean and no figure.
        folder: where it was read from; None for rows that never were in files, which have no training curves.
        baseline: the method that every other one is compared with.
    """

    name: str
    rows: pd.DataFrame
    warnings: list[str]
    diverged: pd.DataFrame = field(default_factory=pd.DataFrame)
    folder: Path | None = None
    baseline: str = BASELINE

    @cached_property
    def all_rows(self) -> pd.DataFrame:
        """The diverged seeds too."""
        return pd.concat([self.rows, self.diverged]) if len(self.diverged) else self.rows

    @cached_property
    def varied(self) -> list[str]:
        """The dotted keys whose value differs between conditions."""
        return varied_keys(self.all_rows)

    @cached_property
    def shared(self) -> list[str]:
        """The varied keys that tell settings apart, see `shared_keys`."""
        return shared_keys(self.all_rows)

    @cached_property
    def searched(self) -> list[str]:
        """The dotted keys of methods' own settings that a search tried together; none where the study is not one."""
        keys = [key for key in self.varied if key.startswith("method.")]
        if len(keys) < 2:
            return []
        trials = self.all_rows.drop_duplicates(["method", *keys]).groupby("method").size()
        return keys if trials.max() >= FEWEST_TRIALS else []

    @cached_property
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs of variants to compare: every one of another method with every one of the baseline.

        None where a search made many of both, which have nothing to do with each other.
        """
        names = self.rows[["method", "variant"]].drop_duplicates().sort_values("variant")
        baseline = list(names.variant[names.method == self.baseline])
        if self.searched and len(baseline) > 1:
            return []
        return [(variant, b) for variant in names.variant[names.method != self.baseline] for b in baseline]

    @cached_property
    def left_out(self) -> str:
        """In words, how many seeds diverged of each variant and setting; empty where none did."""
        if self.diverged.empty:
            return ""
        counts = self.diverged.groupby(["variant", "setting"], as_index=False).seed.nunique()
        columns = (counts[name] for name in ("seed", "variant", "setting"))
        told = [
            f"{n} {'seed' if n == 1 else 'seeds'} of {flat(v)} in {flat(s)}" for n, v, s in zip(*columns, strict=True)
        ]
        shown = "; ".join(told[:6] + [f"and {len(told) - 6} conditions more"] * (len(told) > 6))
        return f"Left out, because their training diverged: {shown}."


def condition_keys(rows: pd.DataFrame) -> list[str]:
    """The dotted keys of conditions among the columns of a table of rows."""
    others = {*LABELS, *MEASURES, *DIVERGED, *NAMES, RUN, CONDITION, CODE}
    return [column for column in rows.columns if column not in others]


def varied_keys(rows: pd.DataFrame) -> list[str]:
    """The dotted keys of conditions whose value differs between rows; a value against none differs too.

    What a method has everywhere, such as its own learning rate, belongs to its name and is no difference. Nor is it one
    that networks of different classes have different keys and sizes: then their class is what differs.
    """
    keys = [key for key in condition_keys(rows) if not key.endswith("_target_") or _is_nested(key)]
    within = rows.groupby("method")[keys].nunique(dropna=False).gt(1).any()
    between = [key for key in keys if rows[key].nunique() > 1 and not key.startswith("method.")]
    varied = [key for key in keys if within[key] or key in between]
    return [key for key in varied if _differs_within_its_class(rows, key)]


def _is_nested(target: str) -> bool:
    """Whether a class is that of a part, such as `model.policy._target_`; of whole groups it is known by its name."""
    return target.count(".") > 1


def _differs_within_its_class(rows: pd.DataFrame, key: str) -> bool:
    """Whether a key that varies does so where the part that it belongs to is of the same class."""
    target = f"{key.rpartition('.')[0]}._target_"
    if target == key or not _is_nested(target) or target not in rows or rows[target].nunique(dropna=False) == 1:
        return True
    within = rows.groupby([target, "method"])[key].nunique(dropna=False).gt(1).any()
    return bool(within or rows.groupby(target)[key].nunique().gt(1).any())


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
            told = rows.groupby("env")[key].transform(_count).gt(1) | (key == COMPLEXITY_KEY)
            setting = setting + _lines(rows[key], key).where(told & rows[key].notna(), "")
        else:
            variant = variant + _lines(rows[key], key).where(rows[key].notna(), "")
    return rows.assign(setting=setting, variant=variant)


def _count(values: pd.Series) -> int:
    """How many different values there are, a missing one among them."""
    return values.nunique(dropna=False)


def _lines(values: pd.Series, key: str) -> pd.Series:
    """For each value a new line with its name, such as `n_pairs 4000`."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        values = values.map("{:g}".format)
    if key.endswith("_target_"):
        values = values.str.rpartition(".")[2]
    return f"\n{name_of_key(key)} " + values.astype(str)


def name_of_key(key: str) -> str:
    """How a dotted key is called where people read it, such as `n_pairs`."""
    key = key.removesuffix("._target_")
    if key.startswith("evaluation."):  # its pairs and prompts are not those that are trained on
        return key
    return key.rpartition(".")[2].replace("_", " ") if key == COMPLEXITY_KEY else key.partition(".")[2] or key


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


def flat(variant: str) -> str:
    """The name of a variant or setting on one line."""
    return ", ".join(variant.splitlines())
