"""What is wrong with a configuration: every problem at once, each with its key, its value and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

T = TypeVar("T")

#: Where the value matters to nobody: the key itself is the problem.
NO_VALUE = object()


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem: `key=value  message`, the message saying what is allowed."""

    key: str
    value: Any
    message: str

    def __str__(self) -> str:
        if self.value is NO_VALUE:
            return _printable(f"{_short(self.key)}: {self.message}")
        shown = self.value if isinstance(self.value, str) else json.dumps(self.value, default=str, ensure_ascii=False)
        return _printable(f"{_short(self.key)}={_short(shown)}: {self.message}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _printable(text: str) -> str:
    """One line of visible characters; others as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ConfigurationError(ValueError):
    """A configuration that cannot be run; its text lists every problem, one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list({str(p): p for p in problems}.values())
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"{count} in the configuration, nothing was run:", *(f"  {p}" for p in self.problems)]
        super().__init__("\n".join(lines))


def check(schema: type[T], values: Mapping[str, Any], prefix: str, problems: list[Problem]) -> T | None:
    """Turn plain values into an object of a schema; what is wrong with them goes into `problems`.

    Args:
        schema: a dataclass.
        values: what YAML and the command line gave.
        prefix: the key under which the values stand, `""` for the top level.
        problems: extended in place.

    Returns:
        The object, or None if there was a problem.
    """
    allowed = knobs(schema)
    unknown = [key for key in values if key not in allowed]
    for key in unknown:
        problem = unknown_key(f"{prefix}.{key}" if prefix else key, allowed, values[key])
        problems += [replace(problem, key=leaf, value=value) for leaf, value in _leaves(problem.key, problem.value)]
    known = {key: value for key, value in values.items() if key in allowed}
    try:
        # JSON, because strict validation takes a mapping for a nested dataclass only from there
        adapter: TypeAdapter[T] = _adapter(cast(Hashable, schema))
        checked = adapter.validate_json(json.dumps(known, default=str))
    except ValidationError as error:
        problems += [_problem(schema, details, prefix) for details in error.errors()]
        return None
    return None if unknown else checked


def _leaves(key: str, value: Any) -> list[tuple[str, Any]]:
    """What stands below a key, as dotted keys with their values: what a user typed."""
    if not isinstance(value, Mapping) or not value:
        return [(key, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(f"{key}.{name}", inner)]


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def knobs(schema: type) -> list[str]:
    """The names of the fields of a dataclass that configuration may set."""
    given = getattr(schema, "given_by_the_run", ())
    return [f.name for f in dataclasses.fields(schema) if f.name not in given]


def unknown_key(key: str, allowed: Iterable[str], value: Any) -> Problem:
    """The problem of a key that does not exist, with the most similar one that does."""
    parent, _, name = key.rpartition(".")
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    where = f"keys of {parent}" if parent else "keys"
    return Problem(key, value, f"unknown key; {hint}{where}: {', '.join(allowed)}")


def _problem(schema: type, details: ErrorDetails, prefix: str) -> Problem:
    path = [str(part) for part in details["loc"]]
    key = ".".join([prefix, *path] if prefix else path)
    if details["type"] == "unexpected_keyword_argument":
        return unknown_key(key, knobs(_nested(schema, path[:-1])), details["input"])
    if details["type"] == "missing":
        return Problem(key, NO_VALUE, "is missing")
    message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    message = message.replace("a valid integer", "a whole number").replace("a valid number", "a number")
    # what is wrong may be how the parts of a value fit together
    whole = details["type"] == "value_error" and isinstance(details["input"], (Mapping, ArgsKwargs))
    return Problem(key, NO_VALUE if whole else details["input"], message)


def _nested(schema: Any, path: list[str]) -> type:
    """The dataclass that is found by following the names of fields, and the keys of mappings, from `schema`."""
    for name in path:
        mapping = get_origin(schema) is dict
        schema = get_args(schema)[1] if mapping else get_type_hints(schema)[name]
    return cast(type, schema)
