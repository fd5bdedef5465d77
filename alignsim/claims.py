"""The claims of a study before they are judged: which conditions they mean, and the record that they were made.

`outputs/<study>/claims.yaml` says of every claim when it was made, and whether training had begun by then. How claims
are judged is in `alignsim.verdicts`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from alignsim.config.claims import Claim, Selection
from alignsim.config.load import to_plain
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem
from alignsim.evaluation.measures import MEASURES
from alignsim.results.files import write_whole
from alignsim.results.folder import RESULTS, STATUS
from alignsim.results.versions import CONDITION

CLAIMS = "claims.yaml"

_HEADER = """\
# What was predicted of this study, written by scripts/train.py. A claim that was made or changed when its training had
# begun says so (before_data: false) and keeps what it said earlier. Claims are judged by scripts/plot.py.
"""


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


def sides(claim: Claim) -> dict[str, Selection]:
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
        if key not in keys:
            close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            message = f"unknown key; {hint}conditions have method, env and the keys of their configuration"
            problems.append(Problem(place, value, message))
    return problems


def _ambiguities(claim: Claim, conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps a claim from being about just the conditions that it needs, in words."""
    told, digests = [], {}
    for part, selection in sides(claim).items():
        groups = by_value_of(claim, [condition for condition in conditions if matches(selection, condition)])
        digests[part] = {value: {condition[CONDITION] for condition in group} for value, group in groups.items()}
        if not groups:
            meant = " ".join(f"{key}={value}" for key, value in selection.items())
            told.append(f"no condition is its {part} {meant}; {_there(selection, conditions)}")
        elif several := next((group for v, group in groups.items() if len(digests[part][v]) > 1), None):
            keys = sorted(key for key in several[0] if len({str(condition.get(key)) for condition in several}) > 1)
            keys.remove(CONDITION)
            told.append(f"several conditions could be its {part}: say which {', '.join(keys)}")
    if told:
        return told
    shared = set.intersection(*(set(groups) for groups in digests.values()))
    if claim.along is not None and (len(shared) < 3 or not all(map(_is_number, shared))):
        there = ", ".join(sorted(map(str, shared))) or "none"
        return [f"a trend needs at least 3 numbers along {claim.along}, there are {there}"]
    if digests["condition"] == digests.get("baseline"):
        return ["its condition and its baseline are the same"]
    return []


def by_value_of(claim: Claim, conditions: Sequence[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    """Conditions by their value along the swept number of a claim; all together where it has none."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for condition in conditions:
        groups.setdefault(condition[claim.along] if claim.along else "one", []).append(condition)
    return groups


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _there(selection: Selection, conditions: Sequence[Mapping[str, Any]]) -> str:
    """Which values of the keys of a selection there are."""
    told = []
    for key in selection:
        found = {condition[key] for condition in conditions if key in condition}
        values = [str(value) for value in sorted(found, key=lambda value: (str(type(value)), value))]
        told.append(f"{key}: {', '.join(values[:12])}{', ...' if len(values) > 12 else ''}")
    return f"there are {'; '.join(told)}"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Registered:
    """A claim and when it was made.

    Attributes:
        claim: the claim.
        registered: when, UTC.
        before_data: whether nothing of the study had been trained by then, in this folder.
        seeds: how many were to be trained; verdicts keep their error rates for a number that was chosen beforehand.
        earlier: what it said before it was changed, oldest first.
    """

    claim: Claim
    registered: str
    before_data: bool
    seeds: int
    earlier: list[Claim] = field(default_factory=list)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Registry:
    """What was predicted of a study.

    Attributes:
        question: what it asks, in one sentence.
        command: the last one that registered claims.
        claims: by name.
    """

    question: str = ""
    command: str = ""
    claims: dict[str, Registered] = field(default_factory=dict)


def registry_of(study: Path) -> Registry:
    """The claims of the study in a folder; none where none were registered.

    Raises:
        ConfigurationError: the file is not what was written.
    """
    path = study / CLAIMS
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(Registry).validate_json(json.dumps(values))  # strict about types, but not about mappings
    except FileNotFoundError:
        return Registry()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
        message = f"is damaged ({told}): mend or remove it, and give the command that trained the study again"
        raise ConfigurationError([Problem(str(path), NO_VALUE, message)]) from error


def register(study: Path, question: str, claims: Mapping[str, Claim], seeds: int, command: str) -> list[str]:
    """Write down what is predicted of a study, now.

    A claim that is there unchanged keeps its date. Once training has begun no claim is dropped, and one that is new or
    changed is marked and keeps what it said before; until then claims may change freely.

    Args:
        study: its folder.
        question: what it asks.
        claims: by name.
        seeds: how many are to be trained.
        command: what the user typed.

    Returns:
        What happened, in words, a line for each thing that was not known before.
    """
    (study / ".locks").mkdir(parents=True, exist_ok=True)
    with FileLock(study / ".locks" / "claims.lock"):
        before = registry_of(study)
        has_data = any(study.glob(f"*/{STATUS}")) or any(study.glob(f"*/{RESULTS}"))
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        made, told, fresh = dict(before.claims) if has_data else {}, [], 0
        for name, claim in claims.items():
            known = before.claims.get(name)
            if known is not None and known.claim == claim and (has_data or known.seeds == seeds):
                made[name] = known
                continue
            earlier = [*known.earlier, known.claim] if known is not None and has_data else []
            made[name] = Registered(claim, now, not has_data, seeds, earlier)
            fresh += not has_data
            if has_data:
                what = "changed" if earlier else "made"
                told.append(f"claim {name} is {what} after the study's training has begun: it is marked so")
        told += [f"claim {name} stays, although it is not predicted any more" for name in made if name not in claims]
        if fresh:
            told.append(f"{fresh} claim{'s' * (fresh > 1)} registered before the study is trained: {study / CLAIMS}")
        registry = Registry(question or before.question, command, made)
        if (registry.question, registry.claims) != (before.question, before.claims):
            text = yaml.safe_dump(to_plain(registry), sort_keys=False, allow_unicode=True, width=100)
            write_whole({study / CLAIMS: lambda path: path.write_text(_HEADER + text, encoding="utf-8")})
    return told
