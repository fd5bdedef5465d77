"""Keys that are patterns: which keys of a configuration they stand for.

A `*` is any part of a key, so `method.*.steps` are the steps of every stage of a method; a `?` at the end says that a
job may lack such a key: `method.beta?`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.types import Override

from alignsim.config.dotted import flatten
from alignsim.config.problems import Problem, renamed
from alignsim.config.renames import new_keys

#: What Hydra reads in place of signs that its grammar does not know in keys.
_STAND_INS = {"*": "__any__", "?": "__if_there__"}

#: Where a key may be a pattern. Elsewhere one would set what has nothing in common: `seeds.*=3` has three meanings.
PATTERNS_BELOW = "method."


def readable(argument: str) -> str:
    """An argument as Hydra can read it."""
    key, equals, value = argument.partition("=")
    for sign, stand_in in _STAND_INS.items():
        key = key.replace(sign, stand_in)
    return key + equals + value


def as_typed(key: str) -> str:
    """A key as the user wrote it."""
    for sign, stand_in in _STAND_INS.items():
        key = key.replace(stand_in, sign)
    return key


def is_pattern(override: Override) -> bool:
    """Whether the key of an override stands for others."""
    return any(stand_in in override.key_or_group for stand_in in _STAND_INS.values())


def is_optional(override: Override) -> bool:
    """Whether a job may lack what a pattern stands for."""
    return as_typed(override.key_or_group).endswith("?")


def matching(override: Override, keys: Iterable[str]) -> list[str]:
    """Those of the keys that a pattern stands for; a `*` is any part of a key, dots too."""
    pattern = as_typed(override.key_or_group).removesuffix("?")
    return [key for key in keys if fnmatchcase(key, pattern)]


def keys_of(values: Mapping[str, Any]) -> list[str]:
    """The dotted keys of all single values of a configuration for which a pattern may stand."""
    return [key for key in flatten(values) if key.startswith(PATTERNS_BELOW)]


def typed_value(override: Override) -> str:
    """The value of an override as it was typed."""
    return (override.input_line or "").partition("=")[2]


def no_match(override: Override, keys: Iterable[str], groups: str) -> Problem:
    """The problem of a pattern that stands for none of the keys of a job with these groups."""
    pattern, keys = as_typed(override.key_or_group), list(keys)
    optional = "?" * pattern.endswith("?")
    if renamed_to := new_keys(pattern.removesuffix("?")):
        meant = [new for new in renamed_to if any(fnmatchcase(key, new) for key in keys)] or renamed_to
        return renamed(pattern, typed_value(override), " or ".join(f"{new}{optional}" for new in meant))
    close = difflib.get_close_matches(pattern.removesuffix("?"), keys, n=3, cutoff=0.6)
    hint = f"; similar: {', '.join(close)}" if close else ""
    where = f" of a job with {groups}" if groups else ""
    return Problem(pattern, typed_value(override), f"stands for no key{where}{hint}")
