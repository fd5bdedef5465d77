"""What the YAML files hold and what a job composes to: Hydra's side of a command line, its complaints as problems."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra import compose
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignsim.cli.wildcards import keys_of
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem

#: How `copy.deepcopy` asks an object for its copy.
_DEEPCOPY = "__deepcopy__"


@dataclass(frozen=True)
class CheckedJob:
    """A job that is known to be good.

    Attributes:
        overrides: as Hydra should get them.
        choices: the chosen option of each group.
        config: what checking its plain values gave.
    """

    overrides: list[str]
    choices: dict[str, str]
    config: Any


@contextlib.contextmanager
def config_store_shared() -> Iterator[None]:
    """Meanwhile Hydra does not copy its store of configurations, a singleton that only plug-ins fill as they are found.

    It copies all that it reads from whenever it lists a group: the store eighty times for `--help`, for half a second.
    """
    setattr(ConfigStore, _DEEPCOPY, lambda store, memo: store)
    try:
        yield
    finally:
        delattr(ConfigStore, _DEEPCOPY)


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
    """What overrides compose to, within `initialize_config_dir`; what the same groups compose to is read once.

    Args:
        config_name: the primary configuration.
        search_path: overrides that say where else YAML files are.
        read: turns plain values into a configuration; raises ConfigurationError where they are no good.
    """

    def __init__(self, config_name: str, search_path: list[str], read: Callable[[Mapping[str, Any]], object]) -> None:
        self._config_name, self._search_path, self._read = config_name, search_path, read
        self._options: dict[str, list[str]] = {}
        self._bases: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}
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
            found = self._loader.get_group_options(key, config_name=self._config_name, overrides=self._search_path)
            self._options[key] = found
        return self._options[key]

    def is_plain(self, override: Override) -> bool:
        """Whether an override is `key=value` of our own configuration: no group, no sign, not Hydra's own."""
        key = override.key_or_group
        hydras = override.is_hydra_override() or "/" in key
        return override.type == OverrideType.CHANGE and not hydras and not self.options(key)

    def with_hydras_part(self, lines: list[str]) -> DictConfig | None:
        """What overrides compose to, with the settings of Hydra itself; None where they do not."""
        try:
            return compose(self._config_name, overrides=[*self._search_path, *lines], return_hydra_config=True)
        except Exception:  # composing the jobs will show why
            return None

    def compose(self, job: list[str]) -> tuple[DictConfig, dict[str, str]]:
        """The configuration of a job and its choices, as Hydra composes it, once for all jobs of the same groups."""
        plain = [argument for argument in job if argument.startswith("++") and not argument.startswith("++hydra.")]
        rest = tuple(argument for argument in job if argument not in plain)
        if rest not in self._bases:
            overrides = [*self._search_path, *rest]
            base = compose(self._config_name, overrides=overrides, return_hydra_config=True)
            choices = {str(group): str(option) for group, option in base.hydra.runtime.choices.items()}
            OmegaConf.set_struct(base, False)
            del base["hydra"]
            self._bases[rest] = base, choices
        config, choices = self._bases[rest]
        config = copy.deepcopy(config)
        for override in self.parse(plain):
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
        return config, choices

    def examine(self, job: list[str]) -> CheckedJob | list[Problem]:
        """A job, once it is known to be good, or what is wrong with it."""
        try:
            config, choices = self.compose(job)
            return CheckedJob(job, choices, self._read(plain_values(config)))
        except ConfigurationError as error:
            return error.problems
        except Exception as error:  # whatever Hydra, OmegaConf or YAML raise at a file or an override
            return [_problem_of(error)]

    def keys(self, job: list[str]) -> list[str]:
        """The dotted keys of all values of a job, with those that its files leave out; none where it is not good."""
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


def groups_of(job: list[str]) -> str:
    """What a job chooses, as it would be typed; its values left out."""
    return " ".join(argument for argument in job if not argument.startswith("++"))


def _problem_of(error: Exception) -> Problem:
    """A library's complaint about a configuration, on one line."""
    told = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if absent := re.match(r"Could not override '([\w/]+)'\. No match in the defaults list", told):
        group, _, part = absent[1].partition("/")
        message = f"the chosen {group} has no such part" if part else "is no group of this command, see --help"
        return Problem(absent[1], NO_VALUE, message)
    return Problem("configuration", NO_VALUE, (told or type(error).__name__)[:300])
