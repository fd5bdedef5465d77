"""Reads the folders of a study into one table. What is damaged, unfinished or of other code becomes a warning.

What the table means is in `alignsim.analysis.study`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from alignsim.analysis.study import BETA, COMPLEXITY_KEY, LABELS, NAMES, RUN, Study, flat, name_settings_and_variants
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.storage.atomic import CorruptFileError
from alignsim.runs.storage.folder import HISTORY, RESULTS, STATUS, RunFolder
from alignsim.runs.storage.table import Table, parse_results
from alignsim.runs.storage.versions import CODE, RESULTS_VERSION
from alignsim.runs.text import format_seed_ranges


def load_study(folder: Path, baseline: str) -> Study:
    """Returns every finished seed of every condition below a study's folder; what is left out becomes a warning.

    Args:
        folder: the study's folder.
        baseline: the method with which every other one is compared.
    """
    contents, warnings = {}, []
    for run in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            content, n_seeds, remarks = _read_run(run)
            contents[run.name] = content, n_seeds
            warnings += remarks
        except _LeftOutError as reason:
            warnings.append(f"{reason}, left out")
    rows = _joined(contents)
    diverged = rows.diverged.eq("True") | ~np.isfinite(rows.value)
    warnings += _mixed_code(rows) + _divergences(rows, diverged)
    rows = rows.assign(setting="", variant="") if rows.empty else name_settings_and_variants(rows)
    doubled = rows.duplicated([*NAMES, "seed"])
    for variant, setting in rows.loc[doubled, ["variant", "setting"]].drop_duplicates().itertuples(index=False):
        warnings.append(f"{flat(variant)} in {flat(setting)}: several conditions have this name, only one is drawn")
    return Study(folder.name, rows[~doubled & ~diverged], warnings, rows[~doubled & diverged], folder, baseline)


def load_histories(study: Study, runs: Iterable[str]) -> pd.DataFrame:
    """Returns the training curves of some runs, without the seeds that diverged.

    Curves are extras, so a missing or damaged file is skipped without a warning.

    Args:
        study: whose folder the runs are in.
        runs: the names of their folders.

    Returns:
        The columns `run`, `stage`, `step`, `seed` and every measure of any of these runs, NaN where it was not
        recorded.
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
    """A condition has no finished results that can be read; the text says why."""


def _read_run(run: Path) -> tuple[bytes, int, list[str]]:
    """The content of the `results.csv` of a condition, the number of its seeds, and warnings about it.

    Raises:
        _LeftOutError: the file is missing, damaged, or of another version.
    """
    status = RunFolder(run).status()
    state = "stopped" if status and status.stopped else status.state if status else ""
    try:
        content = (run / RESULTS).read_bytes()
        table = parse_results(content)
    except FileNotFoundError:
        reasons = {"running": "still running, or killed", "failed": "failed", "stopped": "stopped"}
        raise _LeftOutError(f"{run.name}: {reasons.get(state, f'has no {RESULTS}')}") from None
    except (OSError, CorruptFileError) as error:
        raise _LeftOutError(f"{run / RESULTS}: cannot be read ({error})") from error
    _check_columns(run, table)
    finished = f"its {len(table.rows)} finished seeds are drawn"
    if status is None:
        return content, len(table.rows), [f"{run / STATUS}: cannot be read; {finished}"]
    if state != "finished":
        end = "has not ended" if state == "running" else state
        return content, len(table.rows), [f"{run.name}: the last run {end}; {finished}"]
    return content, len(table.rows), []


def _check_columns(run: Path, table: Table) -> None:
    """Refuse results of another version and columns that are missing or hold something else than numbers.

    Raises:
        _LeftOutError: with the reason.
    """
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


def _joined(contents: Mapping[str, tuple[bytes, int]]) -> pd.DataFrame:
    """The rows of many `results.csv` in one table, with the name of their folder in the column `run`.

    Files with the same columns are parsed together, which is many times faster than one by one.

    Args:
        contents: the bytes of each file and the number of its rows, by folder.
    """
    by_header: dict[bytes, list[tuple[str, bytes, int]]] = {}
    for name, (content, n_rows) in contents.items():
        header, _, body = content.partition(b"\n")
        by_header.setdefault(header.rstrip(b"\r"), []).append((name, body, n_rows))
    tables = [_parsed_together(header, members) for header, members in by_header.items()]
    if not tables:
        return pd.DataFrame(columns=["run", *LABELS, *MEASURES, *DIVERGED, CODE]).astype({"value": float})
    return pd.concat(tables, ignore_index=True)


def _parsed_together(header: bytes, members: Sequence[tuple[str, bytes, int]]) -> pd.DataFrame:
    """The rows below one header: of each folder its name, the lines of its file and their number."""
    joined = b"\n".join([header, b"".join(body for _, body, _ in members)])
    texts = ["method", "env", CODE, *DIVERGED]
    absent = {name: [""] for name in next(csv.reader([header.decode()])) if name not in LABELS}  # a name may be "NA"
    dtype = dict.fromkeys(texts, "str")
    table = pd.read_csv(io.BytesIO(joined), dtype=dtype, keep_default_na=False, na_values=absent)
    runs = np.repeat([name for name, _, _ in members], [n_rows for _, _, n_rows in members])
    numbers = ["seed", *MEASURES, *(name for name in (COMPLEXITY_KEY, BETA) if name in table.columns)]
    return table.assign(run=runs, **{name: pd.to_numeric(table[name]) for name in numbers})


def _mixed_code(rows: pd.DataFrame) -> list[str]:
    """A warning for each file of the user's that differed between conditions."""
    warnings = []
    stamps = rows[["run", CODE]].drop_duplicates()
    files = stamps.assign(file=stamps[CODE].str.split(" ").str[1:]).explode("file").dropna(subset="file")
    versions = files.assign(file=files.file.str.rpartition(":")[0], version=files.file) if len(files) else files
    for name, members in versions.groupby("file"):
        if members.version.nunique() > 1:
            runs = "; ".join(f"{v}: {', '.join(group.run)}" for v, group in members.groupby("version"))
            warnings.append(f"conditions were trained by different versions of {name} ({runs})")
    return warnings


def _divergences(rows: pd.DataFrame, diverged: pd.Series[bool]) -> list[str]:
    """A warning for each condition of which seeds diverged."""
    warnings = []
    for run, seeds in rows[diverged].groupby("run").seed:
        count = f"{len(seeds)} of {(rows.run == run).sum()} seeds"
        warnings.append(f"{run}: {count} diverged ({format_seed_ranges(sorted(seeds))}), left out of every mean")
    return warnings
