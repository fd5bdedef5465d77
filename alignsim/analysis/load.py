"""From the folders of a study to its table; what cannot be read or belongs to other code becomes a complaint."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from alignsim.analysis.study import BETA, COMPLEXITY_KEY, LABELS, NAMES, RUN, Study, flat, name_settings_and_variants
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.storage.atomic import CorruptFileError
from alignsim.runs.storage.folder import HISTORY, RESULTS, STATUS, RunFolder
from alignsim.runs.storage.table import parse_results
from alignsim.runs.storage.versions import CODE, RESULTS_VERSION
from alignsim.runs.text import format_seed_ranges


def load_study(folder: Path, baseline: str) -> Study:
    """Read every finished seed of every condition below a study's folder; what is left out becomes a complaint.

    Args:
        folder: of the study.
        baseline: the method that every other one is compared with.
    """
    contents, warnings = {}, []
    for run in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            content, seeds, told = _read_run(run)
            contents[run.name] = content, seeds
            warnings += told
        except _LeftOutError as reason:
            warnings.append(f"{reason}, left out")
    rows = _joined(contents)
    warnings += _mixed_code(rows)
    diverged = rows.diverged.eq("True") | ~np.isfinite(rows.value)
    for run_name, seeds in rows[diverged].groupby("run").seed:
        count = f"{len(seeds)} of {(rows.run == run_name).sum()} seeds"
        warnings.append(f"{run_name}: {count} diverged ({format_seed_ranges(sorted(seeds))}), left out of every mean")
    rows = rows.assign(setting="", variant="") if rows.empty else name_settings_and_variants(rows)
    doubled = rows.duplicated([*NAMES, "seed"])
    for variant, setting in rows.loc[doubled, ["variant", "setting"]].drop_duplicates().itertuples(index=False):
        warnings.append(f"{flat(variant)} in {flat(setting)}: several conditions have this name, only one is drawn")
    return Study(folder.name, rows[~doubled & ~diverged], warnings, rows[~doubled & diverged], folder, baseline)


def load_histories(study: Study, runs: Iterable[str]) -> pd.DataFrame:
    """The training curves of these runs, without the seeds that diverged.

    Curves are extras: a file that is missing or damaged is skipped in silence.

    Returns:
        The columns run, stage, step, seed and every measure of any of these runs, NaN where it was not taken.
    """
    tables = []
    for file in [study.folder / run / HISTORY for run in dict.fromkeys(runs)] if study.folder else []:
        try:
            table = pd.read_csv(file, dtype={"stage": "str"})
        except (OSError, ValueError):
            continue
        if {"stage", "step", "seed"} <= set(table.columns):
            numbers = [pd.to_numeric(table[name], errors="coerce") for name in table.columns if name != "stage"]
            table = pd.concat([table.stage, *numbers], axis=1).assign(run=file.parent.name)
            tables.append(table.dropna(subset=["step", "seed"]))
    if not tables:
        return pd.DataFrame(columns=[RUN, "stage", "step", "seed"])
    return pd.concat(tables, ignore_index=True).merge(study.rows[[RUN, "seed"]].drop_duplicates(), on=[RUN, "seed"])


class _LeftOutError(Exception):
    """A condition that has no finished, whole results; the text says why."""


def _read_run(run: Path) -> tuple[bytes, int, list[str]]:
    """The whole `results.csv` of a condition, of how many seeds it is, and what should be said about it."""
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
    except (OSError, CorruptFileError) as error:
        raise _LeftOutError(f"{run / RESULTS}: cannot be read ({error})") from error
    code = set(table.column(CODE).values()) if CODE in table.columns else {"1"}
    if any(stamp.partition(" ")[0] != str(RESULTS_VERSION) for stamp in code):
        versions = f"results of version {', '.join(sorted(code))}, this alignsim has {RESULTS_VERSION}"
        raise _LeftOutError(f"{run.name}: {versions}; train it again with force=true")
    if missing := [name for name in (*MEASURES, *DIVERGED) if name not in table.columns]:
        raise _LeftOutError(f"{run / RESULTS}: cannot be read (the column {missing[0]} is missing)")
    for name in (name for name in (COMPLEXITY_KEY, BETA) if name in table.columns):
        try:
            table.measure(name)
        except ValueError as error:
            raise _LeftOutError(f"{run / RESULTS}: cannot be read (column {name}: {error})") from error
    finished = f"its {len(table.rows)} finished seeds are drawn"
    if status is None:
        return content, len(table.rows), [f"{run / STATUS}: cannot be read; {finished}"]
    if state != "finished":
        told = "is not over" if state == "running" else state
        return content, len(table.rows), [f"{run.name}: the last run {told}; {finished}"]
    return content, len(table.rows), []


def _joined(contents: Mapping[str, tuple[bytes, int]]) -> pd.DataFrame:
    """The rows of many `results.csv` in one table, with the name of their folder in the column `run`.

    Files of the same columns are parsed together, which is many times faster than one by one.

    Args:
        contents: by folder, the bytes of the file and how many rows it has.
    """
    by_header: dict[bytes, list[tuple[str, bytes, int]]] = {}
    for name, (content, n_rows) in contents.items():
        header, _, body = content.partition(b"\n")
        by_header.setdefault(header.rstrip(b"\r"), []).append((name, body, n_rows))
    tables = []
    for header, members in by_header.items():
        joined = b"\n".join([header, b"".join(body for _, body, _ in members)])
        texts = ["method", "env", CODE, *DIVERGED]
        absent = {name: [""] for name in next(csv.reader([header.decode()])) if name not in LABELS}  # a name may be NA
        dtype = dict.fromkeys(texts, "str")
        table = pd.read_csv(io.BytesIO(joined), dtype=dtype, keep_default_na=False, na_values=absent)
        runs = np.repeat([name for name, _, _ in members], [n_rows for _, _, n_rows in members])
        numbers = ["seed", *MEASURES, *(name for name in (COMPLEXITY_KEY, BETA) if name in table.columns)]
        tables.append(table.assign(run=runs, **{name: pd.to_numeric(table[name]) for name in numbers}))
    if not tables:
        return pd.DataFrame(columns=["run", *LABELS, *MEASURES, *DIVERGED, CODE]).astype({"value": float})
    return pd.concat(tables, ignore_index=True)


def _mixed_code(rows: pd.DataFrame) -> list[str]:
    """A complaint for each file of the user's that is not the same for all conditions."""
    warnings = []
    stamps = rows[["run", CODE]].drop_duplicates()
    files = stamps.assign(file=stamps[CODE].str.split(" ").str[1:]).explode("file").dropna(subset="file")
    versions = files.assign(file=files.file.str.rpartition(":")[0], version=files.file) if len(files) else files
    for name, members in versions.groupby("file"):
        if members.version.nunique() > 1:
            told = "; ".join(f"{v}: {', '.join(group.run)}" for v, group in members.groupby("version"))
            warnings.append(f"conditions were trained by different versions of {name} ({told})")
    return warnings
