"""What is wrong with a configuration: every problem at once, each with its key, its value and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from alignsim.config.dotted import flatten
from alignsim.config.renames import new_key, row_of

#: Where the value matters to nobody: the key itself is the problem.
NO_VALUE = object()


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem: `key=value  message`, the message saying what is allowed."""

    key: str
    value: Any
    message: str

    def below(self, part: str) -> Problem:
        """The problem with its key below a part of the configuration; here it names a key of that part alone."""
        return dataclasses.replace(self, key=f"{part}.{self.key}")

    def __str__(self) -> str:
        if self.value is NO_VALUE:
            return _printable(f"{_short(self.key)}: {self.message}")
        shown = self.value if isinstance(self.value, str) else json.dumps(self.value, default=str, ensure_ascii=False)
        return _printable(f"{_short(self.key)}={_short(shown)}: {self.message}")


class OldKeyProblem(Problem):
    """The problem of a key that has another name now."""


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


def renamed(key: str, value: Any, new: str) -> Problem:
    """The problem of an old key.

    Args:
        key: the old key.
        value: what it was set to; where other values are allowed now, the message says which.
        new: the key that replaces it.
    """
    row = row_of(key)
    return OldKeyProblem(key, value, f"is now {row.typed.format(value=value) if row and row.typed else new}")


def unknown_key(key: str, allowed: Iterable[str], value: Any, deeper: Sequence[str] = ()) -> Problem:
    """The problem of a key that does not exist, with those that may be meant, or with its new name if it is an old one.

    Args:
        key: the dotted key.
        allowed: the keys that exist in its place.
        value: what it was set to.
        deeper: the dotted keys of that name further down; where there are none, the most similar of `allowed` is named.
    """
    leaves = flatten({key: value})
    leaf, single = next(iter(leaves.items())) if len(leaves) == 1 else (key, NO_VALUE)
    allowed = sorted(allowed)
    if (new := new_key(leaf, key.count("."), allowed)) is not None:
        return renamed(leaf, single, new)
    parent, _, name = key.rpartition(".")
    longer = [key for key in allowed if key.startswith(f"{name}_")]
    meant = deeper or longer or difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    where = f"keys of {parent}" if parent else "keys"
    return Problem(key, value, f"unknown key; {hint}{where}: {', '.join(allowed) or 'none'}")
