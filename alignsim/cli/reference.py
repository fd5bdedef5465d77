"""Every key of a configuration class as one row: its name, meaning, type, range, choices and default.

These are pure functions of classes, values and YAML text. Whoever prints the rows (the documentation, help) composes
the values and chooses the layout.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from alignsim.config.checking import import_class, knobs
from alignsim.config.schema import Component

_TYPE_NAMES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    list: "list",
    tuple: "list",
    dict: "mapping",
}


#: A line of a YAML mapping: its indent, its key and the comment behind its value.
_YAML_ENTRY = re.compile(r"""( *)([\w.]+):(?: +(?:"[^"]*"|'[^']*'|[^#"']*?))?(?: *# (.*))?$""")


class Row(NamedTuple):
    """One key of a configuration.

    Attributes:
        key: the dotted key, such as `method.reward_fit.steps`.
        meaning: what it sets, from the `Attributes:` section of its class, else from the comment beside it in the YAML
            file; a block of keys that neither explains has the first sentence of its class.
        type: `whole number`, `number`, `text`, ...; `keys` for a block of keys, `component` for one with a `_target_`.
        range: the numbers that are allowed, such as `1 to 10,000`; empty where there is no limit.
        choices: the values that are allowed, where they are a list.
        default: as YAML writes it; the class of a component; empty for a block of keys and for a required key.
    """

    key: str
    meaning: str
    type: str
    range: str
    choices: tuple[str, ...]
    default: str


def rows(schema: type, values: Mapping[str, Any] | None = None, yaml: str = "", prefix: str = "") -> list[Row]:
    """Returns a row for every key of a configuration class, in order, each block followed by the keys below it.

    Args:
        schema: a configuration dataclass.
        values: the composed values of an option, as plain values; the defaults of the class where they say nothing.
        yaml: the text of the option's file, whose comments explain keys that the docstrings do not.
        prefix: what the keys begin with, such as `method.`.
    """
    return _rows(schema, values or {}, yaml_comments(yaml), "", prefix)


def _rows(schema: type, values: Mapping[str, Any], comments: Mapping[str, str], path: str, prefix: str) -> list[Row]:
    hints, meanings = get_type_hints(schema, include_extras=True), attribute_docs(schema)
    all_rows: list[Row] = []
    for field in dataclasses.fields(schema):
        if field.name not in knobs(schema):
            continue
        key, hint = f"{path}{field.name}", _Hint(hints[field.name])
        value = values.get(field.name, _default(field))
        block = _class_of_block(value, hint)
        all_rows.append(
            Row(
                f"{prefix}{key}",
                meanings.get(field.name) or comments.get(key) or _summary(block),
                hint.type_name,
                hint.range,
                hint.choices,
                _default_text(value, block, hint),
            )
        )
        if block is not None:
            all_rows += _rows(block, _values_below(value), comments, f"{key}.", prefix)
    return all_rows


class _Hint:
    """A type annotation, taken apart: `Annotated[int, Field(ge=1)] | None`."""

    def __init__(self, annotation: Any) -> None:
        self.limits: dict[str, Any] = {}
        self.choices: tuple[str, ...] = ()
        self.nullable = False
        self.kinds: list[Any] = []
        self._take_apart(annotation)

    def _take_apart(self, annotation: Any) -> None:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if annotation is NoneType:
            self.nullable = True
        elif origin is Annotated:
            self._take_apart(arguments[0])
            for item in arguments[1:]:
                self._note_limits(getattr(item, "metadata", [item]))  # pydantic's Field holds a list of them
        elif origin in (Union, UnionType):
            for argument in arguments:
                self._take_apart(argument)
        elif origin is Literal:
            self.choices += tuple(map(str, arguments))
            self.kinds.append(str)
        else:
            self.kinds.append(origin or annotation)

    def _note_limits(self, constraints: Iterable[Any]) -> None:
        for constraint in constraints:
            self.limits |= {n: getattr(constraint, n) for n in ("ge", "gt", "le", "lt") if hasattr(constraint, n)}

    @property
    def type_name(self) -> str:
        names = dict.fromkeys("choice" if self.choices else _type_name(kind) for kind in self.kinds)
        return " or ".join([*names, *["null"] * self.nullable])

    @property
    def range(self) -> str:
        limits = {name: _number(limit) for name, limit in self.limits.items()}
        if "ge" in limits and "le" in limits:
            return f"{limits['ge']} to {limits['le']}"
        low = f"{limits['ge']} or above" if "ge" in limits else f"above {limits['gt']}" if "gt" in limits else ""
        high = f"at most {limits['le']}" if "le" in limits else f"below {limits['lt']}" if "lt" in limits else ""
        return ", ".join(filter(None, [low, high]))


def _type_name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Component):
        return "component"
    if dataclasses.is_dataclass(kind):
        return "keys"
    return _TYPE_NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _number(value: Any) -> str:
    """A limit with commas, so that 4294967296 can be read."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _class_of_block(value: Any, hint: _Hint) -> type | None:
    """The class whose fields are the keys below a key; None for a key that holds a plain value."""
    if isinstance(value, Mapping) and "_target_" in value:
        return import_class(value["_target_"])
    if dataclasses.is_dataclass(value):
        return type(value)
    blocks = [kind for kind in hint.kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    return blocks[0] if isinstance(value, Mapping) and blocks else None


def _summary(block: type | None) -> str:
    return (inspect.getdoc(block) or "").partition("\n")[0] if block else ""


def _values_below(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _default_text(value: Any, block: type | None, hint: _Hint) -> str:
    if block is not None:
        return f"{block.__module__}.{block.__qualname__}" if "component" in hint.type_name else ""
    if value is dataclasses.MISSING:
        return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def attribute_docs(schema: type) -> dict[str, str]:
    """Returns what the `Attributes:` sections of a class and its parents say of each field; the subclass goes first."""
    docs: dict[str, str] = {}
    for parent in reversed(schema.__mro__):
        docs |= _attributes_section(vars(parent).get("__doc__") or "")
    return docs


def _attributes_section(docstring: str) -> dict[str, str]:
    section = re.search(r"^Attributes:\n((?:[ \t]+.*\n|\n)+)", f"{inspect.cleandoc(docstring)}\n", re.MULTILINE)
    if section is None:
        return {}
    entries = re.split(r"^(\w+): ", textwrap.dedent(section[1]), flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)}


def yaml_comments(text: str) -> dict[str, str]:
    """Returns the comment beside each key of a YAML file, by dotted key.

    >>> yaml_comments("n_pairs: 4000  # for each seed")
    {'n_pairs': 'for each seed'}
    """
    comments: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if (entry := _YAML_ENTRY.match(line)) is None:
            continue
        indent = len(entry[1])
        parents = [parent for parent in parents if parent[0] < indent] + [(indent, entry[2])]
        if entry[3]:
            comments[".".join(name for _, name in parents)] = entry[3]
    return comments
