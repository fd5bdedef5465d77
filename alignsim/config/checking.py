"""Turns plain values into objects of the classes that describe them. Problems are collected, not raised."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

from alignsim.config.dotted import flatten
from alignsim.config.moved import refuse_old_path
from alignsim.config.problems import NO_VALUE, OldKeyProblem, Problem, unknown_key
from alignsim.config.schema import Component

T = TypeVar("T")


def check(schema: type[T], values: Mapping[str, Any], prefix: str, problems: list[Problem]) -> T | None:
    """Turn plain values into an object of a schema; what is wrong with them goes into `problems`.

    Args:
        schema: a dataclass.
        values: the values from YAML and the command line.
        prefix: the key under which the values stand, `""` for the top level.
        problems: extended in place.

    Returns:
        The object, or None if there was a problem.
    """
    allowed, under = knobs(schema), f"{prefix}." if prefix else ""
    unknown = [key for key in values if key not in allowed]
    for key in unknown:
        problem = unknown_key(f"{under}{key}", allowed, values[key], keys_named(key, values, prefix))
        typed = (
            {problem.key: problem.value} if isinstance(problem, OldKeyProblem) else flatten({problem.key: values[key]})
        )
        problems += [replace(problem, key=leaf, value=value) for leaf, value in typed.items()]
    known, n_before = {key: value for key, value in values.items() if key in allowed}, len(problems)
    parts = {
        name: component(base, default, f"{under}{name}", known.pop(name), problems)
        for name, (base, default) in _components(cast(Hashable, schema)).items()
        if isinstance(known.get(name), Mapping)
    }
    parts |= {
        name: check(inner, known.pop(name), f"{under}{name}", problems)
        for name, inner in _with_components(cast(Hashable, schema)).items()
        if isinstance(known.get(name), Mapping)
    }
    try:
        # JSON, because strict validation takes a mapping for a nested dataclass only from there
        adapter: TypeAdapter[T] = _adapter(cast(Hashable, schema))
        checked = adapter.validate_json(json.dumps(known, default=str))
        if unknown or len(problems) > n_before:
            return None
        return cast(T, replace(cast(Any, checked), **parts)) if parts else checked
    except ValidationError as error:
        problems += [_problem(schema, details, prefix) for details in error.errors()]
        return None


def component(base: type, default: type | None, key: str, values: Any, problems: list[Problem]) -> Any:
    """Turn plain values into an object of the class that their `_target_` names; problems are collected as by `check`.

    Args:
        base: what the class must be or inherit from.
        default: the class where none is named; None where one must be.
        key: where the values stand.
        values: what YAML and the command line gave.
        problems: extended in place.
    """
    if not isinstance(values, Mapping):
        problems.append(Problem(key, values, "must be a mapping of keys to values"))
        return None
    path, wanted = values.get("_target_"), f"{base.__module__}.{base.__qualname__}"
    if path is None and default is None:
        message = f"is missing: the import path of a class that is a {wanted}"
        problems.append(Problem(f"{key}._target_", NO_VALUE, message))
        return None
    try:
        schema = import_class(str(path)) if default is None or path is not None else default
    except Exception as error:  # whatever a module of the user's raises while it is imported
        reason = str(error) or type(error).__name__
        problems.append(Problem(f"{key}._target_", path, f"cannot be imported: {reason}"))
        return None
    if not issubclass(schema, base) or not dataclasses.is_dataclass(schema) or inspect.isabstract(schema):
        lacking = ", ".join(sorted(getattr(schema, "__abstractmethods__", ()))) if issubclass(schema, base) else ""
        message = f"must be a dataclass that inherits from {wanted}" + f" and defines {lacking}" * bool(lacking)
        problems.append(Problem(f"{key}._target_", path, message))
        return None
    return check(schema, {name: value for name, value in values.items() if name != "_target_"}, key, problems)


def import_class(path: str) -> type:
    """The class at an import path such as `alignsim.methods.dpo.DPO`.

    Raises:
        ImportError: there is no such module, or no such class in it; where it has moved, the text says where to.
    """
    refuse_old_path(path)
    module, _, name = path.rpartition(".")
    if not module or not name.isidentifier():
        raise ImportError("an import path has a module and a class: package.module.Class")
    named = getattr(import_module(module), name, None)
    if not isinstance(named, type):
        raise ImportError(f"there is no class {name} in {module}")
    return named


@cache
def _components(schema: Any) -> dict[str, tuple[type, type | None]]:
    """The fields of a dataclass whose class `_target_` names: what it must inherit from, and the class by default."""
    components, hints = {}, get_type_hints(schema)
    for field in dataclasses.fields(schema):
        types = [hint for hint in get_args(hints[field.name]) or [hints[field.name]] if hint is not NoneType]
        if len(types) == 1 and isinstance(types[0], type) and issubclass(types[0], Component):
            made = field.default_factory() if callable(field.default_factory) else field.default
            components[field.name] = types[0], type(made) if isinstance(made, types[0]) else None
    return components


@cache
def _with_components(schema: Any) -> dict[str, type]:
    """The fields of a dataclass that are dataclasses with such fields themselves, and their classes."""
    hints, components = get_type_hints(schema), _components(schema)
    fields = [(field.name, hints[field.name]) for field in dataclasses.fields(schema) if field.name not in components]
    plain = [(name, inner) for name, inner in fields if isinstance(inner, type) and dataclasses.is_dataclass(inner)]
    return {name: inner for name, inner in plain if _components(inner) or _with_components(inner)}


def keys_named(name: str, values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of single values below some parts that have this name, such as `method.rl.steps` for `steps`."""
    leaves = flatten(values, f"{prefix}." if prefix else "")
    return [leaf for leaf in leaves if leaf.endswith(f".{name}") and leaf != f"{prefix}.{name}"]


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def knobs(schema: type) -> list[str]:
    """The names of the fields of a dataclass that configuration may set."""
    given = getattr(schema, "given_by_the_run", ())
    return [f.name for f in dataclasses.fields(schema) if f.name not in given]


def _problem(schema: type, details: ErrorDetails, prefix: str) -> Problem:
    path = [str(part) for part in details["loc"]]
    key = ".".join([prefix, *path] if prefix else path)
    if details["type"] == "unexpected_keyword_argument":
        return unknown_key(key, knobs(_nested(schema, path[:-1])), details["input"])
    if details["type"] == "missing":
        return Problem(key, NO_VALUE, "is missing")
    message = (
        details["msg"].removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")
    )
    message = message.replace("an object", "a mapping of keys to values")
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
