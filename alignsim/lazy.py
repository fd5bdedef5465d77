"""torch, imported when it is first used.

Importing torch takes one to two seconds, and `--help`, `--cfg job` or a mistyped key never need it. A module that
defines a configuration class next to the code it configures writes `from alignsim.lazy import torch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Torch:
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(import_module("torch"), name)
            setattr(self, name, attribute)  # the next use is an ordinary attribute look-up
            return attribute

    torch = _Torch()
