"""From the rows of a study to the seeds that a claim is about: plain arrays, nothing judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from alignsim.claims import matches, problems_of, sides
from alignsim.config.claims import Claim
from alignsim.results.versions import CONDITION
from alignsim.statistics import Numbers, rank_correlations
from alignsim.study import Study

#: What is closer than this is the same: training is in single precision.
_DECIMALS = 6


@dataclass(frozen=True)
class Evidence:
    """The seeds that a claim is about.

    Attributes:
        values: for each seed the number whose mean is judged, (n,).
        pair: for each seed the two numbers that are compared, (2, n), where there are just two.
        table: for each seed the numbers along a swept value, (n, k), of a trend.
        diverged: seeds that were left out.
    """

    values: Numbers
    pair: Numbers | None = None
    table: Numbers | None = None
    diverged: int = 0


class NoEvidenceError(Exception):
    """There is nothing to judge a claim by; the text says why."""


def evidence_of(study: Study, claim: Claim) -> Evidence:
    """The seeds that a claim is about, but those that diverged in any of its conditions.

    Raises:
        NoEvidenceError: a condition is missing, or more than one could be meant.
    """
    rows = study.all_rows
    found = rows.drop_duplicates(["method", "env", CONDITION]).to_dict("records") if len(rows) else []
    conditions = cast("list[dict[str, Any]]", found)
    if problems := problems_of({"it": claim}, conditions):
        raise NoEvidenceError("; ".join(problem.message for problem in problems))
    tables, diverged = {}, set[int]()
    for part, selection in sides(claim).items():
        meant = [condition for condition in conditions if matches(selection, condition)]
        tables[part] = _measured(study, claim, part, meant)
        if len(study.diverged):
            diverged |= set(study.diverged.seed[study.diverged[CONDITION].isin([c[CONDITION] for c in meant])])
    if claim.along is None:
        return _compared(claim, tables, diverged)
    shared = sorted(set.intersection(*(set(table.columns) for table in tables.values())))
    if len(shared) < 3:
        raise NoEvidenceError(f"a trend needs at least 3 values of {claim.along}, there are {len(shared)}")
    parts = _on_the_same_seeds({part: table[shared] for part, table in tables.items()}, diverged)
    table = parts["condition"] - parts.get("baseline", 0)
    return Evidence(rank_correlations(table), table=table, diverged=len(diverged))


def _compared(claim: Claim, tables: Mapping[str, pd.DataFrame], diverged: set[int]) -> Evidence:
    """Of a claim that is about a difference, or a difference of differences."""
    parts = {part: numbers[:, 0] for part, numbers in _on_the_same_seeds(tables, diverged).items()}
    values = parts["condition"] - parts.get("baseline", 0)
    if claim.elsewhere is not None:
        return Evidence(values - (parts["condition elsewhere"] - parts["baseline elsewhere"]), diverged=len(diverged))
    pair = np.stack([parts["condition"], parts["baseline"]]) if "baseline" in parts else None
    return Evidence(values, pair, diverged=len(diverged))


def _on_the_same_seeds(tables: Mapping[str, pd.DataFrame], diverged: set[int]) -> dict[str, Numbers]:
    """The numbers of the seeds that every table has whole, but the diverged ones."""
    joined = pd.concat(tables, axis=1, join="inner").dropna().drop(index=list(diverged), errors="ignore")
    return {part: joined[part].to_numpy().round(_DECIMALS) for part in tables}


def _measured(study: Study, claim: Claim, part: str, meant: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The measure of one side of a claim, seeds by values along the swept number; one column where there is none."""
    by_value: dict[Any, list[Mapping[str, Any]]] = {}
    for condition in meant:
        by_value.setdefault(condition[claim.along] if claim.along else "one", []).append(condition)
    columns = {}
    for value, members in by_value.items():
        digest, *others = {condition[CONDITION] for condition in members}
        if others:
            differing = [key for key in ("method", "env", *study.varied) if len({str(m[key]) for m in members}) > 1]
            raise NoEvidenceError(f"{len(others) + 1} conditions could be its {part}: say which {', '.join(differing)}")
        own = study.rows[study.rows[CONDITION] == digest].drop_duplicates("seed")
        columns[value] = own.set_index("seed")[claim.measure]
    table = pd.DataFrame(columns)
    if len(table) and table.isna().to_numpy().all():
        raise NoEvidenceError(f"its {part} has no {claim.measure}")
    return table
