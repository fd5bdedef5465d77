"""Dotted keys, such as `method.policy_fit.steps`: how a single value inside nested mappings is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys, in order; an empty mapping is a value.

    >>> flatten({"env": {"n_pairs": 4000}, "beta": 0.5, "claims": {}})
    {'env.n_pairs': 4000, 'beta': 0.5, 'claims': {}}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
