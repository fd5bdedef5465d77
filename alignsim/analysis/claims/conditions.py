"""What a claim means: which conditions it is about, and what keeps it from being judged whatever their results are.

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


def matches(selection: Selection, condition: Mapping[str, Any]) -> bool:
    """Whether a condition, given by its values under dotted keys, is one that is meant."""
    return all(key in condition and _is_one_of(condition[key], wanted) for key, wanted in selection.items())


def _is_one_of(value: Any, wanted: Any) -> bool:
    return any(_same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))


def _same(value: Any, wanted: Any) -> bool:
    """Whether two values are the same, one of which may come from a table: there True is text and None is NaN."""
    if wanted is None:
        return value is None or value != value
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (value, wanted))
    return bool(value == wanted) if numbers else str(value) == str(wanted)


def claim_conditions(claim: Claim) -> dict[str, Selection]:
    """The conditions that a claim is about, each by the part of the claim that names it."""
    places = {"where": claim.where} | ({} if claim.elsewhere is None else {"elsewhere": claim.elsewhere})
    named = {"condition": claim.condition} | ({} if claim.baseline is None else {"baseline": claim.baseline})
    return {
        name if place == "where" else f"{name} {place}": {**there, **selection}
        for place, there in places.items()
        for name, selection in named.items()
    }


def problems_of(claims: Mapping[str, Claim], conditions: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Why claims cannot be judged from some conditions, whatever their results are; empty where all can.

    Args:
        claims: by name.
        conditions: the values of each under dotted keys, with its digest and the names of its method and environment.
    """
    found: list[Problem] = []
    for name, claim in claims.items():
        where = f"claims.{name}"
        if claim.measure not in MEASURES:
            found.append(Problem(f"{where}.measure", claim.measure, f"must be one of {', '.join(MEASURES)}"))
        unknown = _unknown_keys(where, claim, {key for condition in conditions for key in condition} - {CONDITION})
        found += unknown or [Problem(where, NO_VALUE, told) for told in _ambiguities(claim, conditions)]
    return found


def _unknown_keys(where: str, claim: Claim, keys: set[str]) -> list[Problem]:
    """The keys of a claim that no condition has, each with the most similar one."""
    given: list[tuple[str, str, Any]] = []
    for part in ("condition", "baseline", "where", "elsewhere"):
        selection: Selection = getattr(claim, part) or {}
        given += [(f"{where}.{part}.{key}", key, value) for key, value in selection.items()]
    given += [(f"{where}.along", claim.along, claim.along)] if claim.along is not None else []
    problems = []
    for place, key, value in given:
        if key not in keys and (new := _key_now(key, keys)) is not None:
            problems.append(renamed(place, value, new))
        elif key not in keys:
            close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            message = f"unknown key; {hint}conditions have method, env and the keys of their configuration"
            problems.append(Problem(place, value, message))
    return problems


def _key_now(key: str, keys: set[str]) -> str | None:
    """The key of conditions that replaces an old one; None for a key that is not old."""
    meant = [name for new in new_keys(key) for name in (new, f"{new}._target_") if name in keys]
    return meant[0] if meant else None


def _ambiguities(claim: Claim, conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps a claim from being about just the conditions that it needs, in words."""
    told: list[str] = []
    digests: dict[str, dict[Any, set[str]]] = {}
    for part, selection in claim_conditions(claim).items():
        meant = [condition for condition in conditions if matches(selection, condition)]
        groups = by_value_of(claim, meant)
        digests[part] = {value: {condition[CONDITION] for condition in group} for value, group in groups.items()}
        if not meant:
            described = " ".join(f"{key}={value}" for key, value in selection.items())
            told.append(f"no condition is its {part} {described}; {_there(selection, conditions)}")
        elif not groups:
            told.append(f"its {part} has no {claim.along}")
        elif several := next((group for value, group in groups.items() if len(digests[part][value]) > 1), None):
            keys = sorted(key for key in several[0] if len({str(condition.get(key)) for condition in several}) > 1)
            keys.remove(CONDITION)
            told.append(f"several conditions could be its {part}: say which {', '.join(keys)}")
    if told:
        return told
    shared = set.intersection(*(set(groups) for groups in digests.values()))
    if claim.along is not None and (len(shared) < 3 or not all(map(_is_number, shared))):
        there = ", ".join(sorted(map(str, shared))) or "none"
        return [f"a trend needs at least 3 numbers along {claim.along}, there are {there}"]
    alike = [f"its {a} and its {b} are the same" for a, b in combinations(digests, 2) if digests[a] == digests[b]]
    return alike[:1]


def by_value_of(claim: Claim, conditions: Sequence[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    """Conditions by their value along the swept number of a claim, but those without; all together where none is."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for condition in conditions:
        value = condition.get(claim.along) if claim.along else "one"
        if value is not None and value == value:  # a table has NaN for what a method lacks
            groups.setdefault(value if _is_number(value) else str(value), []).append(condition)
    return groups


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _there(selection: Selection, conditions: Sequence[Mapping[str, Any]]) -> str:
    """Which values of the keys of a selection there are."""
    told = []
    for key in selection:
        found = {str(condition[key]): condition[key] for condition in conditions if key in condition}
        numbers = all(map(_is_number, found.values()))
        values = sorted(found, key=found.__getitem__) if numbers else sorted(found)
        told.append(f"{key}: {', '.join(values[:12])}{', ...' if len(values) > 12 else ''}")
    return f"there are {'; '.join(told)}"
