"""From plain values, as YAML and the command line give them, to the checked configuration of one run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem, check, unknown_key
from alignsim.config.schema import RunSettings

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
    def condition(self) -> dict[str, Any]:
        """What the results depend on, as plain values: everything but seeds, study, folders and device."""
        groups = {name: to_plain(getattr(self, name)) for name in GROUPS}
        return {**groups, "beta": self.run.beta, "evaluation": to_plain(self.run.evaluation)}

    @cached_property
    def hash(self) -> str:
        """Eight hexadecimal digits that name the condition."""
        canonical = json.dumps(self.condition, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def to_plain(self) -> dict[str, Any]:
        """The whole resolved configuration as plain values: `load` gives it back."""
        return {**self.condition, **to_plain(self.run)}


def load(values: Mapping[str, Any]) -> TrainConfig:
    """Check plain values and build the configuration of a run.

    Raises:
        ConfigurationError: with every problem that was found.
    """
    problems: list[Problem] = []
    parts = {name: _load_group(name, values.get(name, {}), problems) for name in GROUPS}
    rest = {key: value for key, value in values.items() if key not in GROUPS}
    run = check(RunSettings, rest, "", problems)
    if problems or run is None:
        raise ConfigurationError(problems)
    return TrainConfig(run=run, **parts)


def to_plain(part: Any) -> dict[str, Any]:
    """A configuration dataclass as plain values; a group names its class in `_target_`."""
    runtime = getattr(part, "given_by_the_run", ())
    plain: dict[str, Any] = {}
    if any(isinstance(part, import_class(base)) for base, _ in GROUPS.values()):
        plain["_target_"] = f"{type(part).__module__}.{type(part).__qualname__}"
    for field in dataclasses.fields(part):
        if field.name not in runtime:
            value = getattr(part, field.name)
            plain[field.name] = to_plain(value) if dataclasses.is_dataclass(value) else value
    return plain


def import_class(path: str) -> type:
    """The class at an import path such as `alignsim.methods.dpo.DPO`.

    Raises:
        ImportError: there is no such module, or no such class in it.
    """
    module, _, name = path.rpartition(".")
    if not module:
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
    except ImportError as error:
        problems.append(Problem(f"{name}._target_", target, f"cannot be imported: {error}"))
        return None
    if not (issubclass(schema, import_class(base)) and dataclasses.is_dataclass(schema)):
        problems.append(Problem(f"{name}._target_", target, f"must be a dataclass that inherits from {base}"))
        return None
    runtime = getattr(schema, "given_by_the_run", ())
    knobs = {key: value for key, value in values.items() if key != "_target_"}
    allowed = [field.name for field in dataclasses.fields(schema) if field.name not in runtime]
    problems += [unknown_key(f"{name}.{key}", allowed) for key in knobs if key in runtime]
    return check(schema, {k: v for k, v in knobs.items() if k not in runtime}, name, problems)
