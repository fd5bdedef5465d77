"""From plain values, as YAML and the command line give them, to the checked configuration of one run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignsim.config.checking import check, component, import_class, keys_named, knobs
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem, unknown_key
from alignsim.config.schema import Component
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
        """The condition as plain values: everything that its results depend on but the seeds and the machine."""
        groups = {name: to_plain(getattr(self, name)) for name in GROUPS}
        return {**groups, "beta": self.run.beta, "evaluation": to_plain(self.run.evaluation)}

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the identity of the condition, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def hash(self) -> str:
        """The first eight digits of the digest, which end the name of the folder."""
        return self.digest[:8]

    def to_plain(self) -> dict[str, Any]:
        """The whole resolved configuration as plain values; `load` of them gives an equal configuration."""
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
    known = {key: value for key, value in values.items() if key in allowed and key not in ("claims", "search")}
    problems += [
        unknown_key(key, allowed, rest.pop(key), keys_named(key, known)) for key in unknown if key != "experiment"
    ]
    if rest.pop("experiment", None) is not None:
        problems.append(Problem("experiment", NO_VALUE, "the first line of a preset must be `# @package _global_`"))
    run = check(RunSettings, rest, "", problems)
    for name in ("model", "method"):
        if parts["env"] is not None and parts[name] is not None:
            problems += [problem.below(name) for problem in parts[name].problems(parts["env"])]
    if problems or run is None:
        raise ConfigurationError(problems)
    return TrainConfig(run=run, **parts)


def to_plain(part: Any) -> dict[str, Any]:
    """A configuration dataclass as plain values; a component names its class in `_target_`."""
    plain: dict[str, Any] = {}
    if isinstance(part, Component):
        plain["_target_"] = f"{type(part).__module__}.{type(part).__qualname__}"
    return plain | {name: _plain_value(getattr(part, name)) for name in knobs(type(part))}


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain_value(inner) for key, inner in value.items()}
    return [_plain_value(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _load_group(name: str, values: Any, problems: list[Problem]) -> Any:
    """The object that a group's values describe, or None and a problem."""
    base, default = GROUPS[name]
    return component(import_class(base), import_class(default) if default else None, name, values, problems)
