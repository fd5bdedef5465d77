"""From plain values, as YAML and the command line give them, to the checked configuration of one run."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem, check, knobs, unknown_key
from alignsim.config.settings import RunSettings

if TYPE_CHECKING:
    from alignsim.envs.base import Environment
    from alignsim.methods.base import Method
    from alignsim.models.config import ModelConfig

#: For each group: the class that its `_target_` must be or inherit from, and the class where none is named.
GROUPS = {
    "env": ("alignsim.envs.base.Environment", "alignsim.envs.simplified.SimplifiedEnvironment"),
    "model": ("alignsim.models.config.ModelConfig", "alignsim.models.config.ModelConfig"),
    "method": ("alignsim.methods.base.Method", None),
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The checked configuration of one run: what `conf/train.yaml` and its groups compose to."""

    env: Environment
    model: ModelConfig
    method: Method
    run: RunSettings

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a condition is, as plain values: everything but seeds, where and how it is run."""
        groups = {name: to_plain(getattr(self, name)) for name in GROUPS}
        return {**groups, "beta": self.run.beta, "evaluation": to_plain(self.run.evaluation)}

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the identity of the condition, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def hash(self) -> str:
        """The first eight digits of it: the end of the folder's name."""
        return self.digest[:8]

    def to_plain(self) -> dict[str, Any]:
        """The whole resolved configuration as plain values: `load` gives it back."""
        return {**self.identity, **to_plain(self.run)}


def load(values: Mapping[str, Any]) -> TrainConfig:
    """Check plain values and build the configuration of a run.

    Raises:
        ConfigurationError: with every problem that was found.
    """
    problems: list[Problem] = []
    parts = {name: _load_group(name, values.get(name, {}), problems) for name in GROUPS}
    rest = {key: value for key, value in values.items() if key not in GROUPS}
    allowed = [*GROUPS, *knobs(RunSettings)]
    unknown = [key for key in rest if key not in allowed]
    problems += [unknown_key(key, allowed, rest.pop(key)) for key in unknown if key != "experiment"]
    if rest.pop("experiment", None) is not None:
        problems.append(Problem("experiment", NO_VALUE, "the first line of a preset must be `# @package _global_`"))
    run = check(RunSettings, rest, "", problems)
    if parts["env"] is not None and parts["model"] is not None:
        width, length = parts["model"].network.hidden_dim, parts["env"].output_dim
        if width < length:
            message = f"must be at least env.output_dim={length}, one unit for each position"
            problems.append(Problem("model.network.hidden_dim", width, message))
    if problems or run is None:
        raise ConfigurationError(problems)
    return TrainConfig(run=run, **parts)


def to_plain(part: Any) -> dict[str, Any]:
    """A configuration dataclass as plain values; a group names its class in `_target_`."""
    plain: dict[str, Any] = {}
    if any(isinstance(part, import_class(base)) for base, _ in GROUPS.values()):
        plain["_target_"] = f"{type(part).__module__}.{type(part).__qualname__}"
    return plain | {name: _plain_value(getattr(part, name)) for name in knobs(type(part))}


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain_value(inner) for key, inner in value.items()}
    return [_plain_value(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def import_class(path: str) -> type:
    """The class at an import path such as `alignsim.methods.dpo.DPO`.

    Raises:
        ImportError: there is no such module, or no such class in it.
    """
    module, _, name = path.rpartition(".")
    if not module or not name.isidentifier():
        raise ImportError("an import path has a module and a class: package.module.Class")
    found = getattr(import_module(module), name, None)
    if not isinstance(found, type):
        raise ImportError(f"there is no class {name} in {module}")
    return found


def _load_group(name: str, values: Any, problems: list[Problem]) -> Any:
    """The object that a group's values describe, or None and a problem."""
    if not isinstance(values, Mapping):
        problems.append(Problem(name, values, "must be a mapping of keys to values"))
        return None
    base, default = GROUPS[name]
    target = values.get("_target_", default)
    if target is None:
        problems.append(Problem(f"{name}._target_", NO_VALUE, f"is missing: the import path of a {base}"))
        return None
    try:
        schema = import_class(str(target))
    except Exception as error:  # whatever a module of the user's raises while it is imported
        told = str(error) or type(error).__name__
        problems.append(Problem(f"{name}._target_", target, f"cannot be imported: {told}"))
        return None
    wanted = import_class(base)
    if not issubclass(schema, wanted) or not dataclasses.is_dataclass(schema) or inspect.isabstract(schema):
        problems.append(Problem(f"{name}._target_", target, f"must be a dataclass that inherits from {base}"))
        return None
    return check(schema, {key: value for key, value in values.items() if key != "_target_"}, name, problems)
