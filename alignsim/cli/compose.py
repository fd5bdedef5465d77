"""Composes the configuration of a job from YAML files and overrides by Hydra, whose errors become problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra import compose
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignsim.cli.wildcards import keys_of
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem, renamed
from alignsim.config.renames import new_keys


@dataclass(frozen=True)
class CheckedJob:
    """A job whose configuration is valid.

    Attributes:
        overrides: its overrides, as Hydra gets them.
        choices: the chosen option of each group.
        config: the checked configuration.
    """

    overrides: list[str]
    choices: dict[str, str]
    config: Any


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, interpolations resolved, without Hydra's own part.

    Raises:
        ConfigurationError: an interpolation cannot be resolved or a mandatory value is missing.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError([_problem_of(error)]) from error
    if not isinstance(values, dict):
        raise ConfigurationError([Problem("config", NO_VALUE, "must be a mapping of keys to values")])
    return {str(key): value for key, value in values.items() if key != "hydra"}


class Composition:
    """Composes overrides, within `initialize_config_dir`. Jobs that choose the same groups share one composition.

    Args:
        config_name: the primary configuration.
        search_path: overrides that say where else YAML files are.
        read: turns plain values into a configuration; raises ConfigurationError where they are invalid.
    """

    def __init__(self, config_name: str, search_path: list[str], read: Callable[[Mapping[str, Any]], object]) -> None:
        self._config_name, self._search_path, self._read = config_name, search_path, read
        self._options: dict[str, list[str]] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        self._keys: dict[tuple[str, ...], list[str]] = {}

    @property
    def _loader(self) -> ConfigLoader:
        return GlobalHydra.instance().config_loader()

    @cached_property
    def _parser(self) -> OverridesParser:
        return OverridesParser.create(config_loader=self._loader)

    def parse(self, lines: list[str]) -> list[Override]:
        """Overrides as Hydra reads them.

        Raises:
            HydraException: one of them is none.
        """
        return self._parser.parse_overrides(lines)

    def options(self, key: str) -> list[str]:
        """The options of a group, those of a user's folder too; none where the key is not a group."""
        if "." in key:
            return []
        if key not in self._options:
            search_path = self._search_path
            names = self._loader.get_group_options(key, config_name=self._config_name, overrides=search_path)
            self._options[key] = names
        return self._options[key]

    def is_plain(self, override: Override) -> bool:
        """Whether an override is `key=value` of our own configuration: no group, no sign, not Hydra's own."""
        key = override.key_or_group
        hydras = override.is_hydra_override() or "/" in key
        return override.type == OverrideType.CHANGE and not hydras and not self.options(key)

    def with_hydras_part(self, lines: list[str]) -> DictConfig | None:
        """The composed configuration with the settings of Hydra itself; None where it cannot be composed."""
        try:
            return self._composed(tuple(lines))
        except Exception:  # composing the jobs will show why
            return None

    def _composed(self, lines: tuple[str, ...]) -> DictConfig:
        """The composed configuration of overrides without plain values, with the settings of Hydra itself; cached."""
        if lines not in self._bases:
            overrides = [*self._search_path, *lines]
            self._bases[lines] = compose(self._config_name, overrides=overrides, return_hydra_config=True)
        return self._bases[lines]

    def compose(self, job: list[str]) -> tuple[DictConfig, dict[str, str]]:
        """The configuration of a job and its choices, as Hydra composes it, once for all jobs of the same groups."""
        plain = [argument for argument in job if argument.startswith("++") and not argument.startswith("++hydra.")]
        rest = tuple(argument for argument in job if argument not in plain)
        base = self._composed(rest)
        choices = {str(group): str(option) for group, option in base.hydra.runtime.choices.items()}
        config = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
        OmegaConf.set_struct(config, False)
        for override in self.parse(plain):
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
        return config, choices

    def examine(self, job: list[str]) -> CheckedJob | list[Problem]:
        """The checked job, or its problems."""
        try:
            config, choices = self.compose(job)
            return CheckedJob(job, choices, self._read(plain_values(config)))
        except ConfigurationError as error:
            return error.problems
        except Exception as error:  # whatever Hydra, OmegaConf or YAML raise at a file or an override
            return [_problem_of(error)]

    def keys(self, job: list[str]) -> list[str]:
        """Returns the keys of a job for which a pattern may stand; none where the job is not good.

        Values that change no keys are left out first, so that jobs of the same groups are read once.
        """
        structure = [argument for argument in job if not _is_scalar(argument)]
        return self._keys_of(structure) or self._keys_of(job)

    def _keys_of(self, job: list[str]) -> list[str]:
        if tuple(job) not in self._keys:
            examined = self.examine(job)
            values: dict[str, Any] = {}
            if isinstance(examined, CheckedJob):
                to_plain = getattr(examined.config, "to_plain", None)
                values = to_plain() if to_plain else plain_values(self.compose(job)[0])
            self._keys[tuple(job)] = keys_of(values)
        return self._keys[tuple(job)]

    @property
    def keys_seen(self) -> list[str]:
        """The keys of all the jobs whose keys were asked for."""
        return sorted({key for keys in self._keys.values() for key in keys})


def _is_scalar(argument: str) -> bool:
    """Whether an override sets one value of our own configuration that names no class."""
    key, _, value = argument.partition("=")
    return key.startswith("++") and not key.startswith("++hydra.") and "_target_" not in key and value[:1] not in "[{$"


def groups_of(job: list[str]) -> str:
    """Returns the options that a job chooses, as they would be typed, without its values."""
    return " ".join(argument for argument in job if not argument.startswith("++"))


def _problem_of(error: Exception) -> Problem:
    """Returns the error of a library about a configuration as a problem of one line."""
    message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if absent := re.match(r"Could not override '([\w/]+)'\. No match in the defaults list", message):
        group, _, part = absent[1].partition("/")
        unknown = f"the chosen {group} has no such part" if part else "is no group of this command, see --help"
        return Problem(absent[1], NO_VALUE, unknown)
    if absent := re.match(r"Could not delete from config\. '([\w.]+)' does not exist", message):
        new = " or ".join(f"~{key}" for key in new_keys(absent[1]))
        return renamed(f"~{absent[1]}", NO_VALUE, new) if new else Problem(f"~{absent[1]}", NO_VALUE, "does not exist")
    return Problem("configuration", NO_VALUE, (message or type(error).__name__)[:300])
