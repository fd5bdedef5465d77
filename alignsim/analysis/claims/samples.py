"""The numbers that a claim is about, one for each seed, as plain arrays from the rows of a study. Nothing is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from alignsim.analysis.claims.conditions import claim_conditions, group_by_swept_value, matches, problems_of
from alignsim.analysis.statistics import Numbers, rank_correlations
from alignsim.analysis.study import Study, condition_keys
from alignsim.config.claims import Claim
from alignsim.runs.storage.versions import CONDITION

#: Differences are rounded to so many decimals, relative to the measure, because training is in single precision.
_DECIMALS = 6

_Conditions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ClaimSamples:
    """The numbers that a claim is about.

    Attributes:
        values: for each seed the number whose mean is judged, (n,), in the units of the measure.
        pair: for each seed the two numbers that are compared, (2, n); None unless there are exactly two.
        table: for each seed the numbers along a swept value, (n, k); None unless the claim is about a trend.
        along: these k swept values.
        dropped: swept values that only some of the claim's conditions have.
        diverged: how many seeds were left out because their training diverged or their measure is not finite.
        missing: how many seeds only some of the conditions have.
    """

    values: Numbers
    pair: Numbers | None = None
    table: Numbers | None = None
    along: Sequence[float] = ()
    dropped: Sequence[float] = ()
    diverged: int = 0
    missing: int = 0


class NoSamplesError(Exception):
    """A claim cannot be judged from the conditions of a study; the text says why."""


def samples_of(study: Study, claim: Claim) -> ClaimSamples:
    """Returns the numbers that a claim is about, of the seeds that finished in all of its conditions.

    Raises:
        NoSamplesError: a condition is missing, or more than one could be meant.
    """
    groups = _groups(study, claim)
    common = set.intersection(*(set(by_value) for by_value in groups.values()))
    along = [value for value in groups["condition"] if value in common]
    along = sorted(along) if claim.along else along
    used = {part: [by_value[value] for value in along] for part, by_value in groups.items()}
    digests = {members[0][CONDITION] for chosen in used.values() for members in chosen}
    seeds, diverged = (_seeds_in(table, digests) for table in (study.rows, study.diverged))
    tables = {part: _measured(study, claim, part, chosen) for part, chosen in used.items()}
    joined = pd.concat(tables, axis=1, join="inner").drop(index=list(diverged), errors="ignore")
    finite = np.isfinite(joined.to_numpy()).all(axis=1)
    numbers = {part: joined[part].to_numpy()[finite] for part in tables}
    return replace(
        _compared(claim, numbers, along),
        dropped=sorted(set.union(*(set(by_value) for by_value in groups.values())) - common),
        diverged=len(diverged) + int((~finite).sum()),
        missing=len(seeds - diverged - set(joined.index)),
    )


def _groups(study: Study, claim: Claim) -> dict[str, dict[Any, list[Mapping[str, Any]]]]:
    """The conditions of each part of a claim, by their value along the swept number."""
    rows = study.all_rows
    columns = ["method", "env", CONDITION, *condition_keys(rows)]
    table = rows[columns].drop_duplicates(columns[:3]).to_dict("records") if len(rows) else []
    conditions = cast("list[dict[str, Any]]", table)
    if problems := problems_of({"it": claim}, conditions):
        raise NoSamplesError("; ".join(problem.message for problem in problems))
    meant = {part: [c for c in conditions if matches(chosen, c)] for part, chosen in claim_conditions(claim).items()}
    return {part: group_by_swept_value(claim, members) for part, members in meant.items()}


def _compared(claim: Claim, parts: Mapping[str, Numbers], along: list[Any]) -> ClaimSamples:
    """The samples of a claim from the numbers (n, k) of each of its parts on the same seeds."""
    difference = parts["condition"] - parts.get("baseline", 0)
    if claim.elsewhere is not None:
        difference = difference - (parts["condition elsewhere"] - parts["baseline elsewhere"])
    scale = max((float(np.abs(numbers).max(initial=0)) for numbers in parts.values()), default=0) or 1.0
    difference = (difference / scale).round(_DECIMALS) * scale
    if claim.along is not None:
        return ClaimSamples(rank_correlations(difference), table=difference, along=along)
    pair = np.stack([parts["condition"][:, 0], parts["baseline"][:, 0]]) if len(parts) == 2 else None
    return ClaimSamples(difference[:, 0], pair)


def _seeds_in(rows: pd.DataFrame, digests: set[str]) -> set[int]:
    """The seeds that a table has of any of these conditions."""
    return set(rows.seed[rows[CONDITION].isin(digests)]) if len(rows) else set()


def _measured(study: Study, claim: Claim, part: str, groups: Sequence[_Conditions]) -> pd.DataFrame:
    """The measure of one part of a claim: a row for each seed that all have, a column for each swept value."""
    columns = []
    for members in groups:
        own = study.rows[study.rows[CONDITION] == members[0][CONDITION]].drop_duplicates("seed")
        columns.append(own.set_index("seed")[claim.measure])
    table: pd.DataFrame = pd.concat(columns, axis=1, join="inner")
    if len(table) and table.isna().to_numpy().all():
        raise NoSamplesError(f"its {part} has no {claim.measure}")
    return table
