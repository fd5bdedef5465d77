"""From the rows of a study to the seeds that a claim is about: plain arrays, nothing judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from alignsim.analysis.claims.conditions import by_value_of, claim_conditions, matches, problems_of
from alignsim.analysis.statistics import Numbers, rank_correlations
from alignsim.analysis.study import Study, condition_keys
from alignsim.config.claims import Claim
from alignsim.runs.storage.versions import CONDITION

#: Relative to the measure, what is closer than this is the same: training is in single precision.
_DECIMALS = 6


@dataclass(frozen=True)
class Evidence:
    """The seeds that a claim is about.

    Attributes:
        values: for each seed the number whose mean is judged, (n,).
        pair: for each seed the two numbers that are compared, (2, n), where there are just two.
        table: for each seed the numbers along a swept value, (n, k), of a trend.
        along: these k values.
        dropped: values that only one side of the claim has.
        diverged: seeds that were left out because their training diverged, or their measure is not finite.
        missing: seeds that only some of the conditions have.
    """

    values: Numbers
    pair: Numbers | None = None
    table: Numbers | None = None
    along: Sequence[float] = ()
    dropped: Sequence[float] = ()
    diverged: int = 0
    missing: int = 0


class NoEvidenceError(Exception):
    """There is nothing to judge a claim by; the text says why."""


def evidence_of(study: Study, claim: Claim) -> Evidence:
    """The seeds that a claim is about, but those that diverged in any of its conditions.

    Raises:
        NoEvidenceError: a condition is missing, or more than one could be meant.
    """
    rows = study.all_rows
    columns = ["method", "env", CONDITION, *condition_keys(rows)]
    found = rows[columns].drop_duplicates(columns[:3]).to_dict("records") if len(rows) else []
    conditions = cast("list[dict[str, Any]]", found)
    if problems := problems_of({"it": claim}, conditions):
        raise NoEvidenceError("; ".join(problem.message for problem in problems))
    meant = {part: [c for c in conditions if matches(chosen, c)] for part, chosen in claim_conditions(claim).items()}
    groups = {part: by_value_of(claim, members) for part, members in meant.items()}
    everywhere = set.intersection(*(set(by_value) for by_value in groups.values()))
    along = [value for value in groups["condition"] if value in everywhere]
    along = sorted(along) if claim.along else along
    used = {part: [by_value[value] for value in along] for part, by_value in groups.items()}
    digests = {members[0][CONDITION] for chosen in used.values() for members in chosen}
    seeds, diverged = (_seeds_of(table, digests) for table in (study.rows, study.diverged))
    tables = {part: _measured(study, claim, part, chosen) for part, chosen in used.items()}
    joined = pd.concat(tables, axis=1, join="inner").drop(index=list(diverged), errors="ignore")
    finite = np.isfinite(joined.to_numpy()).all(axis=1)
    kept = {part: joined[part].to_numpy()[finite] for part in tables}
    return replace(
        _compared(claim, kept, along),
        dropped=sorted(set.union(*(set(by_value) for by_value in groups.values())) - everywhere),
        diverged=len(diverged) + int((~finite).sum()),
        missing=len(seeds - diverged - set(joined.index)),
    )


def _compared(claim: Claim, parts: Mapping[str, Numbers], along: list[Any]) -> Evidence:
    """What a claim is about, from the numbers (n, k) of its sides on the same seeds."""
    difference = parts["condition"] - parts.get("baseline", 0)
    if claim.elsewhere is not None:
        difference = difference - (parts["condition elsewhere"] - parts["baseline elsewhere"])
    scale = max((float(np.abs(numbers).max(initial=0)) for numbers in parts.values()), default=0) or 1.0
    difference = (difference / scale).round(_DECIMALS) * scale
    if claim.along is not None:
        return Evidence(rank_correlations(difference), table=difference, along=along)
    pair = np.stack([parts["condition"][:, 0], parts["baseline"][:, 0]]) if len(parts) == 2 else None
    return Evidence(difference[:, 0], pair)


def _seeds_of(rows: pd.DataFrame, digests: set[str]) -> set[int]:
    """The seeds that rows have of any of these conditions."""
    return set(rows.seed[rows[CONDITION].isin(digests)]) if len(rows) else set()


def _measured(study: Study, claim: Claim, part: str, groups: Sequence[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """The measure of one side of a claim, of the seeds that all have; a column for each value of the swept number."""
    columns = []
    for members in groups:
        own = study.rows[study.rows[CONDITION] == members[0][CONDITION]].drop_duplicates("seed")
        columns.append(own.set_index("seed")[claim.measure])
    table: pd.DataFrame = pd.concat(columns, axis=1, join="inner")
    if len(table) and table.isna().to_numpy().all():
        raise NoEvidenceError(f"its {part} has no {claim.measure}")
    return table
