"""Checking a command line before anything runs: every problem of every job of a sweep, at once.

Hydra stops at the first unknown key or option and leaves values unchecked. Here each job is composed and checked
against the schemas first; Hydra then runs a command line that is known to be good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from alignsim.cli.compose import CheckedJob, Composition, groups_of
from alignsim.cli.expand import MOST_JOBS, Planner, number_of_values
from alignsim.cli.intervals import interval_of
from alignsim.cli.wildcards import as_typed, given, is_pattern, readable
from alignsim.config.defaults import conf_dir
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem

#: Options of Hydra's groups that need a package of an extra of ours: (package, extra).
EXTRAS = {
    "hydra/launcher=processes": ("hydra_joblib_launcher", "processes"),
    "hydra/launcher=slurm": ("hydra_submitit_launcher", "slurm"),
    "hydra/launcher=slurm_local": ("hydra_submitit_launcher", "slurm"),
    "hydra/launcher=ray_cluster": ("hydra_ray_launcher", "ray"),
    "hydra/sweeper=optuna_search": ("hydra_optuna_sweeper", "optuna"),
}

#: Keys that are about a command and not about each of its jobs.
FOR_THE_WHOLE_SWEEP = ("dry_run", "force", "fail_fast", "search")

#: Groups after whose options a condition is called.
NAMED_BY = ("method", "env")


@dataclass(frozen=True)
class CommandLine:
    """A command line that is known to be good.

    Attributes:
        arguments: as Hydra should get them.
        runs: False where it asks for help or for the configuration only.
        multirun: whether it is a sweep.
        jobs: what it runs.
        planned: False where a sweeper of Hydra's decides its jobs as it goes; `jobs` are then two possible ones.
        narrowed: whether it says otherwise of something that a preset sweeps.
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
    """The jobs of a command line, once every one of them is known to be good.

    Plain overrides become `++key=value`, so that a knob which a user's YAML file leaves at its default can be
    changed as any other; whether a key exists is for the schemas to say.

    Args:
        arguments: as the user gave them, without the program's name.
        config_name: the primary configuration.
        read: turns plain values into a configuration; raises ConfigurationError where they are no good.

    Raises:
        ConfigurationError: with every problem of every job.
    """
    parser = get_args_parser()
    setattr(parser, "error", _refused)  # noqa: B010 (for mypy)
    options = parser.parse_intermixed_args(arguments)  # options may stand anywhere
    if options.help or options.hydra_help or options.shell_completion or options.info:
        return CommandLine(arguments)
    if options.experimental_rerun:
        raise ConfigurationError([Problem("--experimental-rerun", options.experimental_rerun, "is not supported")])
    if options.cfg and options.multirun:
        raise ConfigurationError([Problem("--cfg", NO_VALUE, "shows a single job; leave out -m (--multirun)")])
    search_path = []
    if options.config_dir is not None:
        extra = Path(options.config_dir).resolve()
        if not extra.is_dir():
            raise ConfigurationError([Problem("--config-dir", options.config_dir, "must be an existing folder")])
        search_path = [f"hydra.searchpath=['file://{extra}']"]
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        composition = Composition(options.config_name or config_name, search_path, read)
        examined = _Examination(composition, options.multirun, list(options.overrides))
        good, jobs = examined.check()
    flags = [argument for argument in arguments if argument not in options.overrides]
    taken = [line for argument in options.overrides for line in good.get(argument, [argument])]
    return CommandLine([*flags, *taken], not options.cfg, options.multirun, jobs, examined.planned, examined.narrowed)


def _refused(message: str) -> NoReturn:
    """What the parser of options has to complain about."""
    raise ConfigurationError([Problem("command line", NO_VALUE, f"{message} (see --help)")])


class _Examination:
    """One command line under examination: its problems are collected, never raised one by one.

    Args:
        composition: what its jobs compose to.
        multirun: whether it is a sweep.
        typed: its overrides as the user gave them.
    """

    def __init__(self, composition: Composition, multirun: bool, typed: list[str]) -> None:
        self._composition, self._multirun, self._typed = composition, multirun, typed
        self._problems: list[Problem] = []
        presets = [argument for argument in typed if argument.lstrip("+").startswith("experiment=")]
        self._hydras_part = self._composed_sweep() if multirun or presets else None
        config = self._hydras_part
        sweeper = (config.hydra.sweeper if config is not None else None) or {}
        self.planned = str(sweeper.get("_target_", ".BasicSweeper")).endswith(".BasicSweeper")
        self._swept = {str(key): value for key, value in (sweeper.get("params") or {}).items()}
        if self._swept and not multirun:
            message = f"sweeps {', '.join(self._swept)}: it needs -m (--multirun) on the command line"
            self._problems.append(Problem(" ".join(presets), NO_VALUE, message))
            self._swept = {}
        otherwise = {argument.lstrip("+").partition("=")[0] for argument in typed}
        self._params = {key: value for key, value in self._swept.items() if key not in otherwise}
        self.narrowed = len(self._params) < len(self._swept)

    def check(self) -> tuple[dict[str, list[str]], list[CheckedJob]]:
        """For each argument that was typed, those that Hydra should get; and the jobs, or two of them.

        Raises:
            ConfigurationError: with every problem of every job.
        """
        good = self._possible([*(f"{key}={value}" for key, value in self._params.items()), *self._typed])
        patterns = [o for argument in self._typed for o in good.get(argument, []) if is_pattern(o)]
        planner = Planner(self._composition, self._prefix, self._problems)
        if not (self._multirun and self.planned):
            good = planner.without_patterns(good)
        overrides = [override for taken in good.values() for override in taken]
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

    def _composed_sweep(self) -> DictConfig | None:
        """The configuration of a sweep without what it sweeps, Hydra's part too; None where it cannot be composed."""
        overrides = [o for o in map(self._parsed, self._typed) if o is not None and not o.is_sweep_override()]
        self._problems.clear()  # they will be found again
        lines = [o.input_line or "" for o in overrides if not self._composition.is_plain(o)]
        return self._composition.with_hydras_part(lines)

    def _possible(self, arguments: list[str]) -> dict[str, list[Override]]:
        """The arguments that can be of this command line, as Hydra should get them; what is wrong is noted."""
        possible, lacking = {}, False
        for argument in arguments:
            override = self._parsed(argument)
            if override is None:
                continue
            found = self._objections(override)
            self._problems += found
            lacking |= _missing_extra(override) is not None
            if not found:
                prefix = self._prefix(override.key_or_group) if self._composition.is_plain(override) else ""
                possible[argument] = self._composition.parse([f"{prefix}{override.input_line}"])
        if lacking:  # then what it would take cannot be checked
            possible = {a: taken for a, taken in possible.items() if not taken[0].key_or_group.startswith("hydra.")}
        return possible

    def _prefix(self, key: str) -> str:
        """The sign with which Hydra sets a key that a user's YAML file may leave at its default."""
        # other sweepers show keys in their results: there they stay as typed, where Hydra takes them so
        config = self._hydras_part
        return "" if not self.planned and config is not None and OmegaConf.select(config, key) is not None else "++"

    def _for_hydra(self, good: dict[str, list[Override]]) -> dict[str, list[str]]:
        """For each argument that was typed, those that Hydra should get."""
        lines = {argument: [o.input_line or "" for o in taken if not is_pattern(o)] for argument, taken in good.items()}
        if self._swept and not self.planned:  # other sweepers read what a preset sweeps, and know no patterns
            instead = [line for argument, taken in lines.items() if argument not in self._typed for line in taken]
            lines[self._typed[0]] = [*instead, "hydra.sweeper.params=null", *lines[self._typed[0]]]
        return lines

    def _parsed(self, argument: str) -> Override | None:
        """An override as Hydra reads it; a value that Hydra's grammar cannot read is taken as it stands."""
        if argument.startswith("experiment="):  # a preset is added to what there is, with or without the sign
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
            return override  # where it means none, that is told as of an unknown option
        return self._composition.parse([f"{override.get_key_element()}=choice({','.join(names)})"])[0]

    def _objections(self, override: Override) -> list[Problem]:
        """What stands against an override, whatever else is given."""
        key, value, options = as_typed(override.key_or_group), given(override), self._composition.options

        def because(message: str) -> list[Problem]:
            return [Problem(key, value, message)]

        if is_pattern(override) and not self._composition.is_plain(override):
            return because("a * or ? is for keys of the configuration: method.*.steps=100")
        if isinstance(override.value(), Glob):
            there = f"of the options of {key}: {', '.join(options(key))}" if options(key) else "here: it is for groups"
            return because(f"means none {there}")
        if override.is_sweep_override() and not self._multirun:
            return because("several values need -m (--multirun) on the command line")
        if key in ("hydra/sweeper", "hydra/launcher") and not self._multirun:
            return because("is for a sweep: it needs -m (--multirun) on the command line")
        if override.is_sweep_override() and key.partition(".")[0] in FOR_THE_WHOLE_SWEEP:
            return because("is for the whole sweep: it cannot have several values")
        if (interval := interval_of(override)) is not None:
            above = " above 0" * interval.log
            return [] if interval.is_sound else because(f"must be an interval from a lower end{above} to a higher one")
        if (n_values := number_of_values(override)) == 0:
            return because("has no values")
        if n_values > MOST_JOBS and self.planned:
            return because(f"has more than {MOST_JOBS:,} values")
        if (extra := _missing_extra(override)) is not None:
            return because(f'is not installed; pip install "alignsim[{extra}]"')
        if "." in key and {*value.split(",")} <= {*options(group := key.replace(".", "/"))}:
            return because(f"is chosen with {group}={value}; {group} has {', '.join(options(group))}")
        if key in NAMED_BY and (override.is_delete() or override.value() in (None, "")):
            message = f"cannot be left out; {key} has {', '.join(options(key))}"
            return [Problem(f"~{key}", NO_VALUE, message)] if override.is_delete() else because(message)
        if override.is_delete() or not options(key):
            return []
        message = f"unknown option; {key} has {', '.join(options(key))}"
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
        return [Problem(key, v, message) for v in values if v is not None and v not in options(key)]

    def _note_search_in_vain(self, overrides: list[Override]) -> None:
        """Note what was typed about a search where nothing is searched."""
        if any(interval_of(override) is not None for override in overrides):
            return
        typed = [argument for argument in self._typed if argument.lstrip("+").startswith("search.")]
        message = "is for intervals, of which there is none here: key=interval(low,high) with -m"
        parts = (argument.lstrip("+").partition("=") for argument in typed)
        self._problems += [Problem(key, value, message) for key, _, value in parts]

    def _checked(self, jobs: list[list[str]], drawn: set[str]) -> list[CheckedJob]:
        """The jobs that are good; the problems of the others are noted, each once.

        Args:
            jobs: the overrides of each.
            drawn: keys whose values are drawn from intervals.
        """
        checked: list[CheckedJob] = []
        found: dict[str, list[tuple[Problem, list[str]]]] = {}
        for job in jobs:
            examined = self._composition.examine(job)
            if isinstance(examined, CheckedJob):
                checked.append(examined)
            else:
                for problem in examined:
                    found.setdefault(str(problem), []).append((problem, job))
        for members in found.values():
            problem, job = members[0]
            # where every job was given the value and only some mind it, say which
            groups = groups_of(job)
            some = groups and len(members) < len(jobs) and _is_shared(problem, jobs)
            message = problem.message + f" (with {groups})" * bool(some)
            if problem.key in drawn and isinstance(problem.value, float) and "whole number" in message:
                message += ", as int(interval(low,high)) draws them"
            self._problems.append(replace(problem, message=message))
        return checked


def _is_shared(problem: Problem, jobs: list[list[str]]) -> bool:
    """Whether every job was given the value that is a problem in one."""
    return all(f"++{problem.key}={problem.value}" in job for job in jobs)


def _missing_extra(override: Override) -> str | None:
    """The extra that an option of Hydra's needs; None where it needs none that is not installed."""
    plugin, extra = EXTRAS.get(f"{override.key_or_group}={given(override)}", (None, None))
    there = find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None
    return None if there else extra
