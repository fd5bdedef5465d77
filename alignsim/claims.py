"""The claims of a study before they are judged: which conditions they mean, and the record that they were made.

`outputs/<study>/claims.yaml` says of every claim when it was made, and whether any result was there by then. How
claims are judged is in `alignsim.verdicts`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
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
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem, unknown_key
from alignsim.evaluation.measures import MEASURES
from alignsim.results.files import write_whole
from alignsim.results.folder import RESULTS, UNFINISHED

CLAIMS = "claims.yaml"

_HEADER = """\
# What was predicted of this study, written by scripts/train.py before it trained. A claim that was made or changed when
# results were there says so (before_data: false). Claims are judged by scripts/plot.py.
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
    """What is wrong with claims about some conditions: a measure, a key or a condition that does not exist.

    Args:
        claims: by name.
        conditions: the values of each under dotted keys, with the names of its method and environment.
    """
    found: list[Problem] = []
    keys = {key for condition in conditions for key in condition}
    for name, claim in claims.items():
        where = f"claims.{name}"
        if claim.measure not in MEASURES:
            found.append(Problem(f"{where}.measure", claim.measure, f"must be one of {', '.join(MEASURES)}"))
        if claim.along is not None and claim.along not in keys:
            found.append(Problem(f"{where}.along", claim.along, unknown_key(claim.along, keys, None).message))
        for part, selection in sides(claim).items():
            unknown = [key for key in selection if key not in keys]
            found += [_unknown(f"{where}.{key}", key, keys, selection[key]) for key in unknown]
            if not unknown and not any(matches(selection, condition) for condition in conditions):
                told = " ".join(f"{key}={value}" for key, value in selection.items()) or "any condition"
                found.append(
                    Problem(where, told, f"no condition of the study is its {part}; {_there(selection, conditions)}")
                )
    return found


def _unknown(place: str, key: str, keys: Iterable[str], value: Any) -> Problem:
    problem = unknown_key(key, keys, value)
    hint = problem.message.partition("keys")[0] if "did you mean" in problem.message else "unknown key; "
    return Problem(place, value, f"{hint}conditions have the keys method, env and those of their configuration")


def _there(selection: Selection, conditions: Sequence[Mapping[str, Any]]) -> str:
    """Which values of the keys of a selection there are."""
    told = []
    for key in selection:
        values = sorted({str(condition[key]) for condition in conditions if key in condition})
        told.append(f"{key}: {', '.join(values[:12])}{', ...' if len(values) > 12 else ''}")
    return f"there are {'; '.join(told)}"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Registered:
    """A claim and when it was made.

    Attributes:
        claim: the claim.
        registered: when, UTC.
        before_data: whether the study had no result by then.
    """

    claim: Claim
    registered: str
    before_data: bool


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


def register(study: Path, question: str, claims: Mapping[str, Claim], command: str) -> None:
    """Write down what is predicted of a study, now.

    A claim that is there unchanged keeps its date. Once there are results no claim is dropped, and one that is new or
    changed is marked; before that claims may change freely.

    Args:
        study: its folder.
        question: what it asks.
        claims: by name.
        command: what the user typed.
    """
    (study / ".locks").mkdir(parents=True, exist_ok=True)
    with FileLock(study / ".locks" / "claims.lock"):
        before = registry_of(study)
        has_data = any(study.glob(f"*/{RESULTS}")) or any(study.glob(f"*/{UNFINISHED}/seeds-*"))
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        made = dict(before.claims) if has_data else {}
        for name, claim in claims.items():
            known = before.claims.get(name)
            made[name] = known if known and known.claim == claim else Registered(claim, now, not has_data)
        registry = Registry(question or before.question, command, made)
        if (registry.question, registry.claims) != (before.question, before.claims):
            text = yaml.safe_dump(to_plain(registry), sort_keys=False, allow_unicode=True, width=100)
            write_whole({study / CLAIMS: lambda path: path.write_text(_HEADER + text, encoding="utf-8")})
