"""Checking a command line before anything runs: every problem of every job of a sweep, at once.

Hydra stops at the first unknown key or option and leaves values unchecked. Here each job is composed and checked
against the schemas first; Hydra then runs a command line that is known to be good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem


def conf_dir() -> Path:
    """The folder of YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


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


def checked_arguments(
    arguments: list[str], config_name: str, check: Callable[[Mapping[str, Any]], object]
) -> list[str]:
    """The command line that Hydra should get, once every job on it is known to be good.

    Plain overrides become `++key=value`, so that a knob which a user's YAML file leaves at its default can be
    changed as any other; whether a key exists is for the schemas to say.

    Args:
        arguments: as the user gave them, without the program's name.
        config_name: the primary configuration.
        check: raises ConfigurationError where plain values are no good.

    Raises:
        ConfigurationError: with every problem of every job.
    """
    options = get_args_parser().parse_args(arguments)
    if options.help or options.hydra_help or options.shell_completion or options.info:
        return arguments
    search_path = []
    if options.config_dir is not None:
        extra = Path(options.config_dir).resolve()
        if not extra.is_dir():
            raise ConfigurationError([Problem("--config-dir", options.config_dir, "must be an existing folder")])
        search_path = [f"hydra.searchpath=['file://{extra}']"]
    given = list(options.overrides)
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        command_line = _CommandLine(options.config_name or config_name, search_path, check)
        good = command_line.check(given, multirun=options.multirun)
    return [good.get(argument, argument) for argument in arguments]


class _CommandLine:
    """One command line under examination: its problems are collected, never raised one by one."""

    def __init__(self, config_name: str, search_path: list[str], check: Callable[[Mapping[str, Any]], object]) -> None:
        self._config_name, self._search_path, self._check = config_name, search_path, check
        self._problems: list[Problem] = []

    def check(self, given: list[str], multirun: bool) -> dict[str, str]:
        """For each argument that was given, the one that Hydra should get."""
        good = {}
        overrides = []
        for argument in given:
            try:
                override = OverridesParser.create().parse_override(argument)
            except HydraException:
                self._problems.append(Problem(argument, NO_VALUE, "must be key=value or group=option"))
                continue
            if self._has_known_options(override):
                good[argument] = f"++{argument}" if self._is_plain(override) else argument
                overrides.append(OverridesParser.create().parse_override(good[argument]))
        for job in self._jobs(overrides, multirun):
            self._check_job(job)
        if self._problems:
            raise ConfigurationError(self._problems)
        return good

    def _options(self, group: str) -> list[str]:
        loader = GlobalHydra.instance().config_loader()
        overrides = self._search_path
        return loader.get_group_options(group, config_name=self._config_name, overrides=overrides)

    def _is_plain(self, override: Override) -> bool:
        """Whether an override is `key=value` of our own configuration: no group, no sign, not Hydra's own."""
        key = override.key_or_group
        hydras = override.is_hydra_override() or "/" in key
        return override.type == OverrideType.CHANGE and not hydras and not self._options(key)

    def _has_known_options(self, override: Override) -> bool:
        """Whether what a group override chooses exists; the problem is noted where not."""
        group = override.key_or_group
        options = self._options(group) if not override.is_delete() else []
        values = _choices(override)
        unknown = [v for v in values if isinstance(v, str) and options and v not in options]
        message = f"unknown option; {group} has {', '.join(options)}"
        self._problems += [Problem(group, value, message) for value in unknown]
        return not unknown

    def _jobs(self, overrides: list[Override], multirun: bool) -> Iterator[list[str]]:
        """The overrides of each job, as Hydra's basic sweeper splits them."""
        if not multirun:
            for override in overrides:
                if override.is_sweep_override():
                    message = "several values need -m (--multirun) on the command line"
                    self._problems.append(Problem(override.input_line or "", NO_VALUE, message))
            yield [o.input_line or "" for o in overrides if not o.is_sweep_override()]
            return
        discrete = [o for o in overrides if not o.is_sweep_override() or o.is_discrete_sweep()]
        for batch in BasicSweeper.split_arguments(discrete, None):
            yield from batch

    def _check_job(self, job: list[str]) -> None:
        try:
            config = compose(self._config_name, overrides=[*self._search_path, *job])
            self._check(plain_values(config))
        except ConfigurationError as error:
            self._problems += error.problems
        except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
            self._problems.append(_problem_of(error))


def _choices(override: Override) -> list[Any]:
    """Every value that an override gives its key."""
    if override.is_delete():
        return []
    if override.is_discrete_sweep():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.value()]


def _problem_of(error: Exception) -> Problem:
    """A library's complaint about a configuration, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Problem("configuration", NO_VALUE, "; ".join(lines[:2]) or type(error).__name__)
