"""The results of a study as one table: what its conditions are called, what varied, and differences seed by seed.

Reading the folders is here; what is computed from the rows is in `alignsim.statistics` and what uses it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.results.files import DamagedError
from alignsim.results.folder import HISTORY, RESULTS, STATUS, RunFolder
from alignsim.results.tables import parse_results, span
from alignsim.results.versions import CODE, CONDITION, RESULTS_VERSION

#: The method that every other one is compared with.
BASELINE = "dpo"

#: The key that makes generating harder than verifying.
KNOB = "env.complexity_factor"

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
        complaints: what was left out and why, one line each.
        diverged: the same columns of the seeds whose training diverged, which are in no mean and no figure.
        folder: where it was read from; None for rows that never were in files, which have no training curves.
    """

    name: str
    rows: pd.DataFrame
    complaints: list[str]
    diverged: pd.DataFrame = field(default_factory=pd.DataFrame)
    folder: Path | None = None

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
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs of variants to compare: every one of another method with every one of the baseline."""
        names = self.rows[["method", "variant"]].drop_duplicates().sort_values("variant")
        baseline = list(names.variant[names.method == BASELINE])
        return [(variant, b) for variant in names.variant[names.method != BASELINE] for b in baseline]

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

    That a method lacks a key of another method's, such as `method.rl.steps`, is no difference.
    """
    keys = [key for key in condition_keys(rows) if not key.endswith("_target_")]
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
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        values = values.map("{:g}".format)
    return f"\n{name_of_key(key)} " + values.astype(str)


def name_of_key(key: str) -> str:
    """How a dotted key is called where people read it, such as `n_pairs`."""
    return key.rpartition(".")[2].replace("_", " ") if key == KNOB else key.partition(".")[2] or key


def load_study(folder: Path) -> Study:
    """Read every finished seed of every condition below a study's folder; what is left out becomes a complaint."""
    contents, complaints = {}, []
    for run in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            contents[run.name], told = _read_run(run)
            complaints += told
        except _LeftOutError as reason:
            complaints.append(f"{reason}, left out")
    rows = _joined(contents)
    complaints += _mixed_code(rows)
    diverged = rows.diverged.eq("True") | ~np.isfinite(rows.value)
    for run_name, seeds in rows[diverged].groupby("run").seed:
        count = f"{len(seeds)} of {(rows.run == run_name).sum()} seeds"
        complaints.append(f"{run_name}: {count} diverged ({span(sorted(seeds))}), left out of every mean")
    rows = rows.assign(setting="", variant="") if rows.empty else name_settings_and_variants(rows)
    doubled = rows.duplicated([*NAMES, "seed"])
    for variant, setting in rows.loc[doubled, ["variant", "setting"]].drop_duplicates().itertuples(index=False):
        complaints.append(f"{flat(variant)} in {flat(setting)}: several conditions have this name, only one is drawn")
    return Study(folder.name, rows[~doubled & ~diverged], complaints, rows[~doubled & diverged], folder)


def load_histories(study: Study, runs: Iterable[str]) -> pd.DataFrame:
    """The training curves of these runs, without the seeds that diverged.

    Curves are extras: a file that is missing or damaged is skipped in silence.

    Returns:
        The columns run, phase, step, seed and every measure of any of these runs, NaN where it was not taken.
    """
    tables = []
    for file in [study.folder / run / HISTORY for run in dict.fromkeys(runs)] if study.folder else []:
        try:
            table = pd.read_csv(file, dtype={"phase": "str"})
        except (OSError, ValueError):
            continue
        if {"phase", "step", "seed"} <= set(table.columns):
            numbers = [pd.to_numeric(table[name], errors="coerce") for name in table.columns if name != "phase"]
            table = pd.concat([table.phase, *numbers], axis=1).assign(run=file.parent.name)
            tables.append(table.dropna(subset=["step", "seed"]))
    if not tables:
        return pd.DataFrame(columns=[RUN, "phase", "step", "seed"])
    return pd.concat(tables, ignore_index=True).merge(study.rows[[RUN, "seed"]].drop_duplicates(), on=[RUN, "seed"])


class _LeftOutError(Exception):
    """A condition that has no finished, whole results; the text says why."""


def _read_run(run: Path) -> tuple[bytes, list[str]]:
    """The whole `results.csv` of a condition, and what should be said about it."""
    status = RunFolder(run).status()
    state = "stopped" if status and status.stopped else status.state if status else ""
    try:
        content = (run / RESULTS).read_bytes()
        table = parse_results(content)
    except FileNotFoundError:
        told = {"running": "still running, or stopped", "failed": "failed", "stopped": "stopped"}.get(
            state, f"holds no {RESULTS}"
        )
        raise _LeftOutError(f"{run.name}: {told}") from None
    except (OSError, DamagedError) as error:
        raise _LeftOutError(f"{run / RESULTS}: cannot be read ({error})") from error
    code = set(table.column(CODE).values()) if CODE in table.columns else {"1"}
    if any(stamp.partition(" ")[0] != str(RESULTS_VERSION) for stamp in code):
        versions = f"results of version {', '.join(sorted(code))}, this alignsim has {RESULTS_VERSION}"
        raise _LeftOutError(f"{run.name}: {versions}; train it again with force=true")
    if missing := [name for name in (*MEASURES, *DIVERGED) if name not in table.columns]:
        raise _LeftOutError(f"{run / RESULTS}: cannot be read (the column {missing[0]} is missing)")
    finished = f"its {len(table.rows)} finished seeds are drawn"
    if status is None:
        return content, [f"{run / STATUS}: cannot be read; {finished}"]
    if state != "finished":
        return content, [f"{run.name}: the last run {'is not over' if state == 'running' else state}; {finished}"]
    return content, []


def _joined(contents: Mapping[str, bytes]) -> pd.DataFrame:
    """The rows of many `results.csv` in one table, with the name of their folder in the column `run`.

    Files of the same columns are parsed together, which is many times faster than one by one.
    """
    by_header: dict[bytes, list[tuple[str, bytes]]] = {}
    for name, content in contents.items():
        header, _, body = content.partition(b"\n")
        by_header.setdefault(header.rstrip(b"\r"), []).append((name, body))
    tables = []
    for header, members in by_header.items():
        joined = b"\n".join([header, b"".join(body for _, body in members)])
        table = pd.read_csv(io.BytesIO(joined), dtype=dict.fromkeys(["method", "env", CODE, *DIVERGED], "str"))
        runs = np.repeat([name for name, _ in members], [body.count(b"\n") for _, body in members])
        numbers = ["seed", *MEASURES, *({KNOB} & set(table.columns))]
        tables.append(table.assign(run=runs, **{name: pd.to_numeric(table[name]) for name in numbers}))
    if not tables:
        return pd.DataFrame(columns=["run", *LABELS, *MEASURES, *DIVERGED, CODE]).astype({"value": float})
    return pd.concat(tables, ignore_index=True)


def _mixed_code(rows: pd.DataFrame) -> list[str]:
    """A complaint for each file of the user's that is not the same for all conditions."""
    complaints = []
    stamps = rows[["run", CODE]].drop_duplicates()
    files = stamps.assign(file=stamps[CODE].str.split(" ").str[1:]).explode("file").dropna(subset="file")
    versions = files.assign(file=files.file.str.rpartition(":")[0], version=files.file) if len(files) else files
    for name, members in versions.groupby("file"):
        if members.version.nunique() > 1:
            told = "; ".join(f"{v}: {', '.join(group.run)}" for v, group in members.groupby("version"))
            complaints.append(f"conditions were trained by different versions of {name} ({told})")
    return complaints


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
