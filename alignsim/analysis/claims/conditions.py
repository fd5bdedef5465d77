"""Which conditions a claim is about, and what keeps it from being judged whatever their results are.

How a claim is written is `alignsim.config.claims`; registration and judging stand in the modules beside this one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from alignsim.config.claims import Claim, Selection
from alignsim.config.problems import NO_VALUE, Problem, renamed
from alignsim.config.renames import new_keys
from alignsim.evaluation.measures import MEASURES
from alignsim.runs.storage.versions import CONDITION

#: A trend needs at least so many swept values.
FEWEST_SWEPT_VALUES = 3

#: An error lists at most so many of the values that exist.
_MOST_LISTED = 12


def matches(selection: Selection, condition: Mapping[str, Any]) -> bool:
    """Returns whether a selection means a condition, which is given by its values under dotted keys."""
    return all(key in condition and _is_one_of(condition[key], wanted) for key, wanted in selection.items())


def _is_one_of(value: Any, wanted: Any) -> bool:
    return any(_same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))


def _same(value: Any, wanted: Any) -> bool:
    """Whether two values are the same, where one may come from a table, in which True is text and None is NaN."""
    if wanted is None:
        return value is None or value != value
    return bool(value == wanted) if _is_number(value) and _is_number(wanted) else str(value) == str(wanted)


def claim_conditions(claim: Claim) -> dict[str, Selection]:
    """Returns the conditions that a claim is about, by the part of the claim that names each: at most four."""
    scopes = {"where": claim.where} | ({} if claim.elsewhere is None else {"elsewhere": claim.elsewhere})
    named = {"condition": claim.condition} | ({} if claim.baseline is None else {"baseline": claim.baseline})
    return {
        name if scope == "where" else f"{name} {scope}": {**common, **selection}
        for scope, common in scopes.items()
        for name, selection in named.items()
    }


def problems_of(claims: Mapping[str, Claim], conditions: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Returns why claims cannot be judged from some conditions, whatever their results are; empty where all can.

    Args:
        claims: by name.
        conditions: the values of each under dotted keys, with its digest and the names of its method and environment.
    """
    problems: list[Problem] = []
    for name, claim in claims.items():
        where = f"claims.{name}"
        if claim.measure not in MEASURES:
            problems.append(Problem(f"{where}.measure", claim.measure, f"must be one of {', '.join(MEASURES)}"))
        unknown = _unknown_keys(where, claim, {key for condition in conditions for key in condition} - {CONDITION})
        problems += unknown or [Problem(where, NO_VALUE, message) for message in _ambiguities(claim, conditions)]
    return problems


def _unknown_keys(where: str, claim: Claim, keys: set[str]) -> list[Problem]:
    """The keys of a claim that no condition has, each with the most similar one."""
    given: list[tuple[str, str, Any]] = []
    for part in ("condition", "baseline", "where", "elsewhere"):
        selection: Selection = getattr(claim, part) or {}
        given += [(f"{where}.{part}.{key}", key, value) for key, value in selection.items()]
    given += [(f"{where}.along", claim.along, claim.along)] if claim.along is not None else []
    problems = []
    for path, key, value in given:
        if key not in keys and (new := _key_now(key, keys)) is not None:
            problems.append(renamed(path, value, new))
        elif key not in keys:
            close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            message = f"unknown key; {hint}conditions have method, env and the keys of their configuration"
            problems.append(Problem(path, value, message))
    return problems


def _key_now(key: str, keys: set[str]) -> str | None:
    """The key of conditions that replaces an old one; None for a key that is not old."""
    meant = [name for new in new_keys(key) for name in (new, f"{new}._target_") if name in keys]
    return meant[0] if meant else None


def _ambiguities(claim: Claim, conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps a claim from naming exactly the conditions that it needs, one message for each part of it."""
    messages: list[str] = []
    digests: dict[str, dict[Any, set[str]]] = {}
    for part, selection in claim_conditions(claim).items():
        meant = [condition for condition in conditions if matches(selection, condition)]
        groups = group_by_swept_value(claim, meant)
        digests[part] = {value: {condition[CONDITION] for condition in group} for value, group in groups.items()}
        if not meant:
            described = " ".join(f"{key}={value}" for key, value in selection.items())
            messages.append(f"no condition is its {part} {described}; {_existing_values(selection, conditions)}")
        elif not groups:
            messages.append(f"its {part} has no {claim.along}")
        elif several := next((group for value, group in groups.items() if len(digests[part][value]) > 1), None):
            messages.append(f"several conditions could be its {part}: say which {', '.join(_differing(several))}")
    return messages or _unjudgeable(claim, digests)


def _differing(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values tell conditions apart, but not their digests."""
    keys = [key for key in conditions[0] if len({str(condition.get(key)) for condition in conditions}) > 1]
    return sorted(key for key in keys if key != CONDITION)


def _unjudgeable(claim: Claim, digests: Mapping[str, Mapping[Any, set[str]]]) -> list[str]:
    """Why the conditions of a claim, each of which is known, do not suffice: a trend too short, or two that are one."""
    shared = set.intersection(*(set(groups) for groups in digests.values()))
    if claim.along is not None and (len(shared) < FEWEST_SWEPT_VALUES or not all(map(_is_number, shared))):
        values = ", ".join(sorted(map(str, shared))) or "none"
        return [f"a trend needs at least {FEWEST_SWEPT_VALUES} numbers along {claim.along}, there are {values}"]
    pairs = combinations(digests, 2)
    return [f"its {a} and its {b} are the same" for a, b in pairs if digests[a] == digests[b]][:1]


def group_by_swept_value(claim: Claim, conditions: Sequence[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    """Returns conditions by their value along the swept number of a claim, without those that have no such value.

    All conditions are one group where the claim sweeps nothing.
    """
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for condition in conditions:
        value = condition.get(claim.along) if claim.along else "one"
        if value is not None and value == value:  # a table has NaN for what a method lacks
            groups.setdefault(value if _is_number(value) else str(value), []).append(condition)
    return groups


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _existing_values(selection: Selection, conditions: Sequence[Mapping[str, Any]]) -> str:
    """Which values conditions have of the keys of a selection."""
    parts = []
    for key in selection:
        existing = {str(condition[key]): condition[key] for condition in conditions if key in condition}
        numbers = all(map(_is_number, existing.values()))
        values = sorted(existing, key=existing.__getitem__) if numbers else sorted(existing)
        more = ", ..." if len(values) > _MOST_LISTED else ""
        parts.append(f"{key}: {', '.join(values[:_MOST_LISTED])}{more}")
    return f"there are {'; '.join(parts)}"
