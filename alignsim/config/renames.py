"""The configuration keys that have another name since version 6 of the results, and what to write instead.

No other module knows an old key. Modules, classes and functions that moved are in `alignsim.config.moved`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

#: The attribute of a dataclass that names its fields.
_FIELDS = "__dataclass_fields__"


class RenamedKey(NamedTuple):
    """An old key and the ones that replace it.

    Attributes:
        old: the dotted key; a `*` is any one part of it.
        new: the dotted key, or several of which the chosen class has one; a `*` is what it is in `old`.
        typed: what the command line says instead, where more than the key changes; `{value}` is the old value.
        python: what a constructor in Python gets instead, where that is more than a new name.
    """

    old: str
    new: tuple[str, ...]
    typed: str = ""
    python: str = ""


#: Parts of a method, and the same ones below a stage of it, such as `method.rl.prompts`.
_OF_A_METHOD = {"prompts": "prompts_per_step", "samples": "samples_per_prompt", "inner_steps": "epochs"}

#: The first row that fits a key counts.
RENAMED_KEYS = (
    RenamedKey("method.supervised", ("method.reward_fit", "method.policy_fit")),
    RenamedKey("method.distillation", ("method.policy_fit",)),
    RenamedKey("method.imitation.iteration", ("method.imitation.steps_per_iteration",)),
    RenamedKey("method.scale", ("method.logit_scale",)),
    RenamedKey("method.*.scale", ("method.*.normalize_std",)),
    *(RenamedKey(f"method.{old}", (f"method.{new}",)) for old, new in _OF_A_METHOD.items()),
    *(RenamedKey(f"method.*.{old}", (f"method.*.{new}",)) for old, new in _OF_A_METHOD.items()),
    RenamedKey("model.*.prefix", ("model.*.autoregressive",)),
    RenamedKey("model.*.*.prefix", ("model.*.*.autoregressive",)),
    RenamedKey("seeds.chunk", ("seeds.per_stack",)),
    RenamedKey("random.draws", ("search.num_trials",)),
    RenamedKey("random.defaults", ("search.include_defaults",)),
    RenamedKey("random", ("search",)),
    RenamedKey(
        "env.preferences",
        ("env.labels",),
        typed="env/labels={value}",
        python="labels=alignsim.envs.labels.BradleyTerry() or Deterministic()",
    ),
    RenamedKey(
        "env.label_noise",
        ("env.labels.flip_probability",),
        python="labels=alignsim.envs.labels.BradleyTerry(flip_probability=...)",
    ),
    RenamedKey(
        "env.reference_tilt",
        ("env.reference.tilt",),
        typed="env.reference.tilt={value} with env/reference=tilted",
        python="reference=alignsim.envs.references.Tilted(tilt=...)",
    ),
)


def row_of(key: str) -> RenamedKey | None:
    """The row of the table for a dotted key, or for a pattern such as `method.*.prompts`; None where no row fits.

    A `*` of the pattern may be any part that keeps its name, so `method.*` is no old key.
    """
    parts = key.split(".")
    return next((row for row in RENAMED_KEYS if _fits(parts, row)), None)


def _fits(parts: list[str], row: RenamedKey) -> bool:
    old, new = row.old.split("."), row.new[0].split(".")
    pairs = zip(parts, old, new, strict=False)
    return len(parts) >= len(old) and all(p in (a, "*" if a == b else a) or a == "*" for p, a, b in pairs)


def new_keys(key: str) -> list[str]:
    """The dotted keys that may replace an old one, with the parts below it; none for a key that is not old.

    >>> new_keys("method.supervised.steps")
    ['method.reward_fit.steps', 'method.policy_fit.steps']
    >>> new_keys("method.*.prompts")
    ['method.*.prompts_per_step']
    """
    row, parts = row_of(key), key.split(".")
    if row is None:
        return []
    return [_replaced(parts, row.old.split("."), new.split(".")) for new in row.new]


def _replaced(parts: list[str], old: list[str], new: list[str]) -> str:
    """The parts of a key, with those that differ between an old and a new key exchanged."""
    changed = [typed if same == part else part for part, same, typed in zip(new, old, parts, strict=False)]
    return ".".join([*changed, *new[len(old) :], *parts[len(old) :]])


def new_key(key: str, depth: int, allowed: Iterable[str]) -> str | None:
    """The key that replaces an old one in a class; None where the key is not old or the class has no such field.

    Args:
        key: the dotted key.
        depth: how many dots stand before the name of the field.
        allowed: the names of the fields of the class.
    """
    names = set(allowed)
    return next((new for new in new_keys(key) if new.split(".")[depth] in names), None)


#: By the name of a base class: what a user's subclass may still define under an old name, beside fields.
OLD_MEMBERS = {
    "Environment": {"read": "tokens_to_content", "write": "content_to_tokens"},
    "DirectMethod": {"phase": "stage"},
    "PolicyOptimizer": {"losses": "loss", "stage": "learner"},
}


def refuse_old_members(schema: type) -> None:
    """Refuse a class that defines a field or a method by an old name, which nothing would ask for any more.

    Args:
        schema: the class; names count as old where its bases have the new one and not the old one.

    Raises:
        TypeError: it does; the text names the new name.
    """
    bases = schema.__mro__[1:]
    inherited = {name for base in bases for name in (*vars(base), *getattr(base, _FIELDS, ()))}
    members = {old: new for base in bases for old, new in OLD_MEMBERS.get(base.__name__, {}).items()}
    for name in {**vars(schema), **inspect.get_annotations(schema)}:
        news = [members.get(name, ""), *(field for field, _ in _OLD_FIELDS.get(name, ()))]
        if name not in inherited and (new := next((new for new in news if new in inherited), None)) is not None:
            raise TypeError(f"{schema.__name__}.{name}: is now {new}")


def refuse_old_fields(schema: type, given: Mapping[str, Any]) -> None:
    """Refuse arguments of a configuration class that have another name now.

    Args:
        schema: a dataclass.
        given: the keyword arguments of its constructor.

    Raises:
        TypeError: one of them is an old one; the text names the new one.
    """
    if _OLD_FIELDS.keys().isdisjoint(given):
        return
    fields: Mapping[str, Any] = getattr(schema, _FIELDS, {})
    for name in given:
        new = next((instead for field, instead in _OLD_FIELDS.get(name, ()) if field in fields), None)
        if new is not None and name not in fields:
            raise TypeError(f"{schema.__name__}({name}=...): is now {new}")


def _old_fields() -> dict[str, list[tuple[str, str]]]:
    """For each old name of a field: the new field and what to write instead."""
    fields: dict[str, list[tuple[str, str]]] = {}
    for row in RENAMED_KEYS:
        at, name = row.old.count("."), row.old.rpartition(".")[2]
        for new in (key.split(".")[at] for key in row.new):
            fields.setdefault(name, []).append((new, row.python or new))
    return fields


_OLD_FIELDS = _old_fields()
