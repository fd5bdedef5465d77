"""torch and numpy, imported when they are first used.

Importing torch takes one to two seconds and numpy a tenth of one; `--help`, `--cfg job` or a mistyped key never need
them. A module that these commands import writes `from alignsim._lazy import torch`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as numpy
    import torch as torch
else:

    class _Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(import_module(self.__name__), name)
            setattr(self, name, attribute)  # the next use is an ordinary attribute lookup
            return attribute

    numpy, torch = _Lazy("numpy"), _Lazy("torch")
