"""Checking a command line before anything runs: every problem of every job of a sweep, at once.

Hydra stops at the first unknown key or option and leaves values unchecked. Here each job is composed and checked
against the schemas first; Hydra then runs a command line that is known to be good.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
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
    if options.cfg and options.multirun:
        raise ConfigurationError([Problem("--cfg", NO_VALUE, "shows a single job; leave out -m (--multirun)")])
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
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def check(self, given: list[str], multirun: bool) -> dict[str, str]:
        """For each argument that was given, the one that Hydra should get."""
        good: dict[str, str] = {}
        for argument in given:
            override = self._parse(argument)
            if override is not None and self._is_possible(override, multirun):
                prefix = "++" if self._is_plain(override) else ""
                good[argument] = f"{prefix}{override.input_line}"
        jobs = self._jobs([o for o in map(self._parse, good.values()) if o is not None], multirun)
        told: set[str] = set()
        for job in jobs:
            for problem in self._problems_of(job):
                # where nobody typed the value for this job in particular, say in which job it is no good
                groups = " ".join(argument for argument in job if not argument.startswith("++"))
                where = f" (with {groups})" if len(jobs) > 1 and groups and self._is_shared(problem, jobs) else ""
                if str(problem) not in told:
                    told.add(str(problem))
                    self._problems.append(replace(problem, message=problem.message + where))
        if self._problems:
            raise ConfigurationError(self._problems)
        return good

    def _is_shared(self, problem: Problem, jobs: list[list[str]]) -> bool:
        """Whether every job was given the value that is a problem in this one."""
        return all(f"++{problem.key}={problem.value}" in job for job in jobs)

    @property
    def _loader(self) -> ConfigLoader:
        return GlobalHydra.instance().config_loader()

    def _parse(self, argument: str) -> Override | None:
        """An override as Hydra reads it; a value that Hydra's grammar cannot read is taken as it stands."""
        key, equals, value = argument.partition("=")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        for attempt in (argument, f'{key}="{quoted}"') if equals else (argument,):
            try:
                return OverridesParser.create(config_loader=self._loader).parse_overrides([attempt])[0]
            except HydraException:
                continue
        self._problems.append(Problem(argument, NO_VALUE, "must be key=value or group=option"))
        return None

    def _options(self, group: str) -> list[str]:
        return self._loader.get_group_options(group, config_name=self._config_name, overrides=self._search_path)

    def _is_plain(self, override: Override) -> bool:
        """Whether an override is `key=value` of our own configuration: no group, no sign, not Hydra's own."""
        key = override.key_or_group
        hydras = override.is_hydra_override() or "/" in key
        return override.type == OverrideType.CHANGE and not hydras and not self._options(key)

    def _is_possible(self, override: Override, multirun: bool) -> bool:
        """Whether an override can be one of this command line; what stands against it is noted."""
        key, found = override.key_or_group, len(self._problems)
        given = (override.input_line or "").partition("=")[2]
        if override.is_sweep_override() and not multirun:
            self._problems.append(Problem(key, given, "several values need -m (--multirun) on the command line"))
        elif override.is_sweep_override() and not override.is_discrete_sweep():
            self._problems.append(Problem(key, given, "an interval needs a sweeper other than hydra/sweeper=basic"))
        elif not override.is_delete() and (options := self._options(key)):
            message = f"unknown option; {key} has {', '.join(options)}"
            values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
            self._problems += [Problem(key, v, message) for v in values if v is not None and v not in options]
        return len(self._problems) == found

    def _jobs(self, overrides: list[Override], multirun: bool) -> list[list[str]]:
        """The overrides of each job, as Hydra's basic sweeper splits them."""
        if not multirun:
            return [[override.input_line or "" for override in overrides]]
        return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]

    def _problems_of(self, job: list[str]) -> list[Problem]:
        try:
            self._check(plain_values(self._composed(job)))
        except ConfigurationError as error:
            return error.problems
        except Exception as error:  # whatever Hydra, OmegaConf or YAML raise at a file or an override
            return [_problem_of(error)]
        return []

    def _composed(self, job: list[str]) -> DictConfig:
        """The configuration of a job, as Hydra composes it, but composed once for all jobs of the same groups."""
        plain = [argument for argument in job if argument.startswith("++") and not argument.startswith("++hydra.")]
        rest = tuple(argument for argument in job if argument not in plain)
        if rest not in self._bases:
            self._bases[rest] = compose(self._config_name, overrides=[*self._search_path, *rest])
        config = copy.deepcopy(self._bases[rest])
        for override in OverridesParser.create().parse_overrides(plain):
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
        return config


def _problem_of(error: Exception) -> Problem:
    """A library's complaint about a configuration, on one line."""
    told = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return Problem("configuration", NO_VALUE, (told or type(error).__name__)[:300])
