"""Checking a command line before anything runs: every problem of every job of a sweep, at once.

Hydra stops at the first unknown key or option and leaves values unchecked. Here each job is composed and checked
against the schemas first; Hydra then runs a valid command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from hydra import initialize_config_dir
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from alignsim.cli.compose import CheckedJob, Composition, groups_of
from alignsim.cli.expand import Planner, end_of, number_of_values
from alignsim.cli.hydra_compat import VERSION_BASE, option_parser
from alignsim.cli.intervals import interval_of
from alignsim.cli.objections import Objections, missing_extra
from alignsim.cli.wildcards import as_typed, is_pattern, readable
from alignsim.config.defaults import conf_dir
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem
from alignsim.config.renames import new_keys
from alignsim.runs.train_config import GROUPS


@dataclass(frozen=True)
class CommandLine:
    """A checked command line.

    Attributes:
        arguments: its arguments, as Hydra gets them.
        runs: whether it runs jobs; False where it asks only for help or for the configuration.
        multirun: whether it is a sweep.
        jobs: the jobs that it runs.
        planned: whether its jobs are known beforehand. If not, another sweeper of Hydra chooses them as it goes, and
            `jobs` are two possible ones.
        narrowed: whether it sets a key that a preset sweeps.
    """

    arguments: list[str]
    runs: bool = False
    multirun: bool = False
    jobs: list[CheckedJob] = field(default_factory=list)
    planned: bool = True
    narrowed: bool = False


def checked_command_line(
    arguments: list[str], config_name: str, read: Callable[[Mapping[str, Any]], object]
) -> CommandLine:
    """Check every job of a command line.

    Plain overrides become `++key=value`, so that a knob which a user's YAML file leaves at its default can be
    changed as any other; whether a key exists is for the schemas to say.

    Args:
        arguments: as the user gave them, without the program's name.
        config_name: the primary configuration.
        read: turns plain values into a configuration; raises ConfigurationError where they are invalid.

    Raises:
        ConfigurationError: with every problem of every job.
    """
    options = option_parser(_refuse).parse_intermixed_args(arguments)  # options may stand anywhere
    if options.help or options.hydra_help or options.shell_completion or options.info:
        return CommandLine(arguments)
    if options.experimental_rerun:
        raise ConfigurationError([Problem("--experimental-rerun", options.experimental_rerun, "is not supported")])
    if options.config_path:
        message = "is not supported: --config-dir FOLDER adds YAML files of your own"
        raise ConfigurationError([Problem("--config-path", options.config_path, message)])
    if options.cfg and options.multirun:
        raise ConfigurationError([Problem("--cfg", NO_VALUE, "shows a single job; leave out -m (--multirun)")])
    search_path = _search_path(options.config_dir)
    with initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        composition = Composition(options.config_name or config_name, search_path, read)
        line_check = _LineCheck(composition, options.multirun, list(options.overrides))
        good, jobs = line_check.check()
    flags = [argument for argument in arguments if argument not in options.overrides]
    lines = [line for argument in options.overrides for line in good.get(argument, [argument])]
    return CommandLine(
        [*flags, *lines], not options.cfg, options.multirun, jobs, line_check.planned, line_check.narrowed
    )


def _refuse(message: str) -> NoReturn:
    """Refuse options that cannot be parsed."""
    raise ConfigurationError([Problem("command line", NO_VALUE, f"{message} (see --help)")])


def _search_path(config_dir: str | None) -> list[str]:
    """Returns the overrides that make Hydra search a user's folder for YAML files, too.

    Raises:
        ConfigurationError: there is no such folder, or a file in it has the name of a shipped one, which Hydra would
            read in its place.
    """
    if config_dir is None:
        return []
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise ConfigurationError([Problem("--config-dir", config_dir, "must be an existing folder")])
    files = [path.relative_to(folder) for path in folder.glob("*/**/*.yaml")]
    if folder != conf_dir() and (shadowed := [path for path in files if (conf_dir() / path).is_file()]):
        message = "has the name of a shipped file, which is read in its place: give it another name"
        raise ConfigurationError([Problem("--config-dir", str(path), message) for path in sorted(shadowed)])
    return [f"hydra.searchpath=['file://{folder}']"]


class _LineCheck:
    """The check of one command line: problems are collected, never raised one by one.

    Args:
        composition: composes its jobs.
        multirun: whether it is a sweep.
        typed: its overrides as the user typed them.
    """

    def __init__(self, composition: Composition, multirun: bool, typed: list[str]) -> None:
        self._composition, self._multirun, self._typed = composition, multirun, typed
        self._problems: list[Problem] = []
        presets = [argument for argument in typed if argument.lstrip("+").startswith("experiment=")]
        self._hydras_part = self._composed_sweep() if multirun or presets else None
        sweeper = (self._hydras_part.hydra.sweeper if self._hydras_part is not None else None) or {}
        self.planned = str(sweeper.get("_target_", ".BasicSweeper")).endswith(".BasicSweeper")
        self._swept = {str(key): value for key, value in (sweeper.get("params") or {}).items()}
        if self._swept and not multirun:
            message = f"sweeps {', '.join(self._swept)}: it needs -m (--multirun) on the command line"
            self._problems.append(Problem(" ".join(presets), NO_VALUE, message))
            self._swept = {}
        by_the_user = {argument.lstrip("+").partition("=")[0] for argument in typed}
        self._params = {key: value for key, value in self._swept.items() if key not in by_the_user}
        self.narrowed = len(self._params) < len(self._swept)
        self._objections = Objections(composition, multirun, self.planned)

    def check(self) -> tuple[dict[str, list[str]], list[CheckedJob]]:
        """For each typed argument, the arguments that Hydra gets; and the checked jobs, all or two possible ones.

        Raises:
            ConfigurationError: with every problem of every job.
        """
        good = self._possible([*(f"{key}={value}" for key, value in self._params.items()), *self._typed])
        patterns = [o for argument, parsed in good.items() for o in parsed if self._is_expected(argument, o)]
        planner = Planner(self._composition, self._prefix, self._problems)
        if not (self._multirun and self.planned):
            good = planner.without_patterns(good)
        overrides = [override for parsed in good.values() for override in parsed]
        if not self._multirun:
            jobs = [[override.input_line or "" for override in overrides]]
        else:
            jobs = planner.jobs(overrides) if self.planned else planner.corners(overrides)
        checked = self._checked(jobs, {o.key_or_group for o in overrides if interval_of(o) is not None})
        if not self._problems:  # what a preset sweeps may be for methods that are not in this sweep
            planner.note_patterns_in_vain(patterns)
            self._note_search_in_vain(overrides)
        if self._problems:
            raise ConfigurationError(self._problems)
        return self._for_hydra(good), checked

    def _is_expected(self, argument: str, override: Override) -> bool:
        """Whether an override is a pattern that has to stand for something in some job: typed, or with an old key."""
        is_old = bool(new_keys(as_typed(override.key_or_group).removesuffix("?")))
        return is_pattern(override) and (argument in self._typed or is_old)

    def _composed_sweep(self) -> DictConfig | None:
        """The configuration of a sweep without what it sweeps, Hydra's part too; None where it cannot be composed.

        Groups that are swept stand at their first option: that is what the first job composes to as well.
        """
        overrides = [o for o in map(self._parsed, self._typed) if o is not None]
        self._problems.clear()  # checking the arguments finds them again
        chosen = [
            o for o in overrides if not o.is_sweep_override() or (o.key_or_group in GROUPS and number_of_values(o))
        ]
        lines = [end_of(o, 0) for o in chosen if not self._composition.is_plain(o)]
        return self._composition.with_hydras_part(lines)

    def _possible(self, arguments: list[str]) -> dict[str, list[Override]]:
        """The arguments that can be of this command line, as Hydra should get them; what is wrong is noted."""
        possible, lacking = {}, False
        for argument in arguments:
            override = self._parsed(argument)
            if override is None:
                continue
            problems = self._objections.to(override)
            self._problems += problems
            lacking |= missing_extra(override) is not None
            if not problems:
                prefix = self._prefix(override.key_or_group) if self._composition.is_plain(override) else ""
                possible[argument] = self._composition.parse([f"{prefix}{override.input_line}"])
        if lacking:  # the settings of what is not installed cannot be checked
            possible = {key: value for key, value in possible.items() if not value[0].key_or_group.startswith("hydra.")}
        return possible

    def _prefix(self, key: str) -> str:
        """The sign with which Hydra sets a key that a user's YAML file may leave at its default."""
        # other sweepers show keys in their results: there they stay as typed, where Hydra takes them so
        config = self._hydras_part
        return "" if not self.planned and config is not None and OmegaConf.select(config, key) is not None else "++"

    def _for_hydra(self, good: dict[str, list[Override]]) -> dict[str, list[str]]:
        """For each argument that was typed, those that Hydra should get."""
        lines = {key: [o.input_line or "" for o in parsed if not is_pattern(o)] for key, parsed in good.items()}
        if self._swept and not self.planned:  # other sweepers read what a preset sweeps, and know no patterns
            preset = [line for key, overrides in lines.items() if key not in self._typed for line in overrides]
            lines[self._typed[0]] = [*preset, "hydra.sweeper.params=null", *lines[self._typed[0]]]
        return lines

    def _parsed(self, argument: str) -> Override | None:
        """Returns an override as Hydra reads it; a value that Hydra's grammar cannot read is a text."""
        if argument.startswith("experiment="):  # Hydra wants the sign for a group that has no default
            argument = f"+{argument}"
        argument = readable(argument)
        key, equals, value = argument.partition("=")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        attempts = (argument, f'{key}="{quoted}"') if equals else (argument,)
        for attempt in attempts if key.strip("+~") else ():
            with contextlib.suppress(HydraException):
                return self._with_options(self._composition.parse([attempt])[0])
        self._problems.append(Problem(as_typed(argument), NO_VALUE, "must be key=value or group=option"))
        return None

    def _with_options(self, override: Override) -> Override:
        """An override with the options that its `glob(...)` means, those of a user's folder too."""
        value, options = override.value(), self._composition.options(override.key_or_group)
        if not isinstance(value, Glob) or not (names := value.filter(options)):
            return override  # a glob that means nothing is an objection
        return self._composition.parse([f"{override.get_key_element()}=choice({','.join(names)})"])[0]

    def _note_search_in_vain(self, overrides: list[Override]) -> None:
        """Note what was typed about a search where nothing is searched."""
        if any(interval_of(override) is not None for override in overrides):
            return
        typed = [argument for argument in self._typed if argument.lstrip("+").startswith("search.")]
        message = "is for intervals, and this line has none: key=interval(low,high) with -m"
        parts = (argument.lstrip("+").partition("=") for argument in typed)
        self._problems += [Problem(key, value, message) for key, _, value in parts]

    def _checked(self, jobs: list[list[str]], drawn: set[str]) -> list[CheckedJob]:
        """The jobs that are good; the problems of the others are noted, each once.

        Args:
            jobs: the overrides of each.
            drawn: keys whose values are drawn from intervals.
        """
        checked: list[CheckedJob] = []
        problems: dict[str, list[tuple[Problem, list[str]]]] = {}
        for job in jobs:
            examined = self._composition.examine(job)
            if isinstance(examined, CheckedJob):
                checked.append(examined)
            else:
                for problem in examined:
                    problems.setdefault(str(problem), []).append((problem, job))
        self._problems += [_explained(members, jobs, drawn) for members in problems.values()]
        return checked


def _explained(members: list[tuple[Problem, list[str]]], jobs: list[list[str]], drawn: set[str]) -> Problem:
    """Returns a problem that says which jobs have it, where all were given the value and only some mind it.

    Args:
        members: the problem and each job that has it.
        jobs: all jobs.
        drawn: keys whose values are drawn from intervals.
    """
    problem, job = members[0]
    groups = groups_of(job)
    some = groups and len(members) < len(jobs) and _is_shared(problem, jobs)
    message = problem.message + f" (with {groups})" * bool(some)
    if problem.key in drawn and isinstance(problem.value, float) and "whole number" in message:
        message += ", as int(interval(low,high)) draws them"
    return replace(problem, message=message)


def _is_shared(problem: Problem, jobs: list[list[str]]) -> bool:
    """Whether every job was given the value that is a problem in one."""
    return all(f"++{problem.key}={problem.value}" in job for job in jobs)
