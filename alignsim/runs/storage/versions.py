"""What gives results their meaning: the version of alignsim's results, the user's own code, the condition.

Rows that any of these does not fit are never mixed with others; what becomes of them is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.storage.table import Table

#: Raised by one whenever the files of a run, or what a condition means, change: older results are then never mixed
#: with newer ones.
RESULTS_VERSION = 6

#: Columns of `results.csv`: the digest of the condition that a row is of, and which code trained it, see `code_stamp`.
CONDITION, CODE = "condition", "code"


def code_stamp(parts: Iterable[object]) -> str:
    """Which code gives a condition its meaning: the version of alignsim's results, and the files of a user's classes.

    Args:
        parts: the objects that a condition is made of: its environment, model and method.

    Returns:
        Such as `2`, or `2 mine.py:1f2e3d4c` where a class is defined in the user's `mine.py`.
    """
    files = set()
    for part in itertools.chain.from_iterable(map(_with_parts, parts)):
        for base in type(part).__mro__:
            package = base.__module__.partition(".")[0]
            if package != "alignsim" and package not in sys.stdlib_module_names:
                with contextlib.suppress(TypeError, OSError):  # no file, as in a notebook
                    files.add(Path(inspect.getsourcefile(base) or ""))
    stamps = sorted(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}" for path in files)
    return " ".join([str(RESULTS_VERSION), *stamps])


def _with_parts(part: object) -> Iterator[object]:
    """A part of a condition, and the parts that it is made of itself, such as a network."""
    yield part
    for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        yield from _with_parts(getattr(part, field.name))


def origin_mismatch(table: Table, condition: str, code: str) -> str | None:
    """Whose rows these are, in words, where they are not of this condition and code."""
    if not table.rows:
        return None
    if CODE not in table.columns:
        return f"version 1, this alignsim writes version {RESULTS_VERSION}"
    if (codes := set(table.column(CODE).values())) != {code}:
        return f"other code ({', '.join(sorted(codes))}, now {code})"
    if CONDITION not in table.columns or set(table.column(CONDITION).values()) != {condition}:
        return "another condition"
    if missing := [name for name in (*MEASURES, *DIVERGED) if name not in table.columns]:
        return f"other measures ({missing[0]} is missing)"
    return None
