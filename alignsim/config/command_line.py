"""Checking a command line before anything runs: every problem of every job of a sweep, at once.

Hydra stops at the first unknown key or option and leaves values unchecked. Here each job is composed and checked
against the schemas first; Hydra then runs a command line that is known to be good.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignsim.config.checking import check
from alignsim.config.patterns import as_typed, is_optional, is_pattern, keys_of, matching, no_match, readable
from alignsim.config.problems import NO_VALUE, ConfigurationError, Problem
from alignsim.config.random_search import drawn, interval_of
from alignsim.config.schema import RandomSearch

#: Options of Hydra's groups that need a package of an extra of ours: (package, extra).
EXTRAS = {
    "hydra/launcher=processes": ("hydra_joblib_launcher", "processes"),
    "hydra/launcher=slurm": ("hydra_submitit_launcher", "slurm"),
    "hydra/launcher=slurm_local": ("hydra_submitit_launcher", "slurm"),
    "hydra/launcher=ray_cluster": ("hydra_ray_launcher", "ray"),
    "hydra/sweeper=optuna_search": ("hydra_optuna_sweeper", "optuna"),
}

#: Keys that are about a command and not about each of its jobs.
FOR_THE_WHOLE_SWEEP = ("dry_run", "force", "fail_fast", "random")

#: Groups after whose options a condition is called.
NAMED_BY = ("method", "env")

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


def conf_dir() -> Path:
    """The folder of YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


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
    options = get_args_parser().parse_args(arguments)
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
        examined = _Examination(options.config_name or config_name, search_path, read, options.multirun)
        good, jobs = examined.check(list(options.overrides))
    arguments = [taken for argument in arguments for taken in good.get(argument, [argument])]
    return CommandLine(arguments, not options.cfg, examined.multirun, jobs, examined.planned, examined.narrowed)


class _Examination:
    """One command line under examination: its problems are collected, never raised one by one."""

    def __init__(
        self, config_name: str, search_path: list[str], read: Callable[[Mapping[str, Any]], object], multirun: bool
    ) -> None:
        self._config_name, self._search_path, self._read = config_name, search_path, read
        self.multirun, self.planned, self.narrowed, self._lacks_an_extra = multirun, True, False, False
        self._problems: list[Problem] = []
        self._known_options: dict[str, list[str]] = {}
        self._composable: DictConfig | None = None
        self._bases: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}
        self._keys: dict[tuple[str, ...], list[str]] = {}
        self._found: set[str] = set()

    def check(self, given: list[str]) -> tuple[dict[str, list[str]], list[CheckedJob]]:
        """For each argument that was given, those that Hydra should get; and the jobs, or two of them."""
        presets = [argument for argument in given if argument.lstrip("+").startswith("experiment=")]
        config = self._sweep_config(given) if self.multirun or presets else None
        sweeper = (config.hydra.sweeper if config is not None else None) or {}
        self.planned = str(sweeper.get("_target_", ".BasicSweeper")).endswith(".BasicSweeper")
        self._composable = config
        swept = {str(key): value for key, value in (sweeper.get("params") or {}).items()}
        if swept and not self.multirun:
            message = f"sweeps {', '.join(swept)}: it needs -m (--multirun) on the command line"
            self._problems.append(Problem(" ".join(presets), NO_VALUE, message))
            swept = {}
        typed = {argument.lstrip("+").partition("=")[0] for argument in given}
        params = {key: value for key, value in swept.items() if key not in typed}
        self.narrowed = len(params) < len(swept)
        good: dict[str, list[Override]] = {}
        for argument in [*(f"{key}={value}" for key, value in params.items()), *given]:
            override = self._parse(argument)
            if override is not None and self._is_possible(override):
                prefix = self._prefix(override.key_or_group) if self._is_plain(override) else ""
                good[argument] = self._parser.parse_overrides([f"{prefix}{override.input_line}"])
        patterns = [o for argument in given for o in good.get(argument, []) if is_pattern(o)]
        if not (self.multirun and self.planned):
            good = self._without_patterns(good)
        overrides = [override for taken in good.values() for override in taken]
        if self._lacks_an_extra:  # then what it would take cannot be checked
            overrides = [override for override in overrides if not override.key_or_group.startswith("hydra.")]
        jobs = self._jobs(overrides) if self.planned else self._corners(overrides)
        checked = self._checked(jobs)
        if not self._problems:  # what a preset sweeps may be for methods that are not in this sweep
            keys = sorted({key for known in self._keys.values() for key in known})
            vain = [o for o in patterns if is_optional(o) and o.key_or_group not in self._found]
            self._problems += [no_match(pattern, keys, "") for pattern in vain]
        if self._problems:
            raise ConfigurationError(self._problems)
        lines = {argument: [o.input_line or "" for o in taken if not is_pattern(o)] for argument, taken in good.items()}
        if swept and not self.planned:  # other sweepers read what a preset sweeps themselves, and know no patterns
            instead = [line for argument, taken in lines.items() if argument not in given for line in taken]
            lines[given[0]] = [*instead, "hydra.sweeper.params=null", *lines[given[0]]]
        return lines, checked

    def _prefix(self, key: str) -> str:
        """The sign with which Hydra sets a key that a user's YAML file may leave at its default."""
        # other sweepers show keys in their results: there they stay as typed, where Hydra takes them so
        config = self._composable
        return "" if not self.planned and config is not None and OmegaConf.select(config, key) is not None else "++"

    def _sweep_config(self, given: list[str]) -> DictConfig | None:
        """The configuration of a sweep without what it sweeps, Hydra's part too; None where it cannot be composed."""
        overrides = [o for o in map(self._parse, given) if o is not None and not o.is_sweep_override()]
        self._problems.clear()  # they will be found again
        lines = [o.input_line or "" for o in overrides if not self._is_plain(o)]
        try:
            return compose(self._config_name, overrides=[*self._search_path, *lines], return_hydra_config=True)
        except Exception:  # the jobs will show why
            return None

    def _checked(self, jobs: list[list[str]]) -> list[CheckedJob]:
        """The jobs that are good; the problems of the others are noted, each once."""
        checked: list[CheckedJob] = []
        found: dict[str, list[tuple[Problem, list[str]]]] = {}
        for job in jobs:
            examined = self._examine(job)
            if isinstance(examined, CheckedJob):
                checked.append(examined)
            else:
                for problem in examined:
                    found.setdefault(str(problem), []).append((problem, job))
        for members in found.values():
            problem, job = members[0]
            # where every job was given the value and only some mind it, say which
            groups = " ".join(argument for argument in job if not argument.startswith("++"))
            some = groups and len(members) < len(jobs) and self._is_shared(problem, jobs)
            self._problems.append(replace(problem, message=problem.message + f" (with {groups})" * bool(some)))
        return checked

    def _is_shared(self, problem: Problem, jobs: list[list[str]]) -> bool:
        """Whether every job was given the value that is a problem in this one."""
        return all(f"++{problem.key}={problem.value}" in job for job in jobs)

    @property
    def _loader(self) -> ConfigLoader:
        return GlobalHydra.instance().config_loader()

    @cached_property
    def _parser(self) -> OverridesParser:
        return OverridesParser.create(config_loader=self._loader)

    def _parse(self, argument: str) -> Override | None:
        """An override as Hydra reads it; a value that Hydra's grammar cannot read is taken as it stands."""
        if argument.startswith("experiment="):  # a preset is added to what there is, with or without the sign
            argument = f"+{argument}"
        argument = readable(argument)
        key, equals, value = argument.partition("=")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        for attempt in (argument, f'{key}="{quoted}"') if equals else (argument,):
            with contextlib.suppress(HydraException):
                return self._with_options(self._parser.parse_overrides([attempt])[0])
        self._problems.append(Problem(as_typed(argument), NO_VALUE, "must be key=value or group=option"))
        return None

    def _with_options(self, override: Override) -> Override:
        """An override with the options that its `glob(...)` means, those of a user's folder too."""
        value, options = override.value(), self._options(override.key_or_group)
        if not isinstance(value, Glob) or not (names := value.filter(options)):
            return override  # where it means none, that is told as of an unknown option
        return self._parser.parse_overrides([f"{override.get_key_element()}=choice({','.join(names)})"])[0]

    def _options(self, key: str) -> list[str]:
        """The options of a group; none where the key is not one."""
        if "." in key:
            return []
        if key not in self._known_options:
            found = self._loader.get_group_options(key, config_name=self._config_name, overrides=self._search_path)
            self._known_options[key] = found
        return self._known_options[key]

    def _is_plain(self, override: Override) -> bool:
        """Whether an override is `key=value` of our own configuration: no group, no sign, not Hydra's own."""
        key = override.key_or_group
        hydras = override.is_hydra_override() or "/" in key
        return override.type == OverrideType.CHANGE and not hydras and not self._options(key)

    def _is_possible(self, override: Override) -> bool:
        """Whether an override can be one of this command line; what stands against it is noted."""
        key, found = as_typed(override.key_or_group), len(self._problems)
        given = _given(override)
        if is_pattern(override) and not self._is_plain(override):
            self._problems.append(Problem(key, given, "a * or ? is for keys of the configuration: method.*.steps=100"))
        elif isinstance(override.value(), Glob):
            options = self._options(key)
            there = f"of the options of {key}: {', '.join(options)}" if options else "here: it is for groups"
            self._problems.append(Problem(key, given, f"means none {there}"))
        elif override.is_sweep_override() and not self.multirun:
            self._problems.append(Problem(key, given, "several values need -m (--multirun) on the command line"))
        elif override.is_sweep_override() and key.partition(".")[0] in FOR_THE_WHOLE_SWEEP:
            self._problems.append(Problem(key, given, "is for the whole sweep: it cannot have several values"))
        elif (interval := interval_of(override)) is not None:
            if not interval.is_sound:
                message = f"must be an interval from a lower end{' above 0' * interval.log} to a higher one"
                self._problems.append(Problem(key, given, message))
        elif f"{key}={given}" in EXTRAS and not _is_installed(EXTRAS[f"{key}={given}"][0]):
            extra = EXTRAS[f"{key}={given}"][1]
            self._lacks_an_extra = True
            self._problems.append(Problem(key, given, f'is not installed; pip install "alignsim[{extra}]"'))
        elif "." in key and {*given.split(",")} <= {*(options := self._options(group := key.replace(".", "/")))}:
            message = f"is chosen with {group}={given}; {group} has {', '.join(options)}"
            self._problems.append(Problem(key, given, message))
        elif override.is_delete() and key in NAMED_BY:
            message = f"cannot be left out; {key} has {', '.join(self._options(key))}"
            self._problems.append(Problem(f"~{key}", NO_VALUE, message))
        elif not override.is_delete() and (options := self._options(key)):
            message = f"unknown option; {key} has {', '.join(options)}"
            values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
            self._problems += [Problem(key, v, message) for v in values if v is not None and v not in options]
        return len(self._problems) == found

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """The overrides of each job: every combination of choices, for every draw of the intervals."""
        if not self.multirun:
            return [[override.input_line or "" for override in overrides]]
        patterns = [override for override in overrides if is_pattern(override)]
        rest = [override for override in overrides if not is_pattern(override)]
        intervals = [override for override in overrides if interval_of(override) is not None]
        search = self._search(rest, intervals)
        jobs = []
        for draw in range(search.draws or 1):
            left_out = intervals if search.defaults and draw == 0 else []
            lines = [self._drawn(override, draw, search) for override in rest if override not in left_out]
            shown = [pattern for pattern in patterns if pattern not in left_out]
            for job in _product(self._parser.parse_overrides(lines)):
                found = [self._drawn(o, draw, search) for pattern in shown for o in self._matches(pattern, job)]
                jobs += [[*job, *more] for more in _product(self._parser.parse_overrides(found))]
        return jobs

    def _search(self, overrides: list[Override], intervals: list[Override]) -> RandomSearch:
        """How the intervals of a sweep are drawn; one draw where there are none."""
        if not intervals:
            return RandomSearch()
        fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
        try:
            values = plain_values(self._composed(fixed)[0]).get("random", {})
        except Exception:  # checking the first draw will show why
            values = {"draws": 1}
        search = check(RandomSearch, values, "random", self._problems) or RandomSearch(draws=1)
        if search.draws is None:
            message = "an interval needs random.draws=N (random search) or hydra/sweeper=optuna_search"
            self._problems += [Problem(as_typed(o.key_or_group), _given(o), message) for o in intervals]
        return search

    def _drawn(self, override: Override, draw: int, search: RandomSearch) -> str:
        """An override as it was typed, but for an interval, which is drawn from."""
        return drawn(override, draw, search.seed) if interval_of(override) is not None else override.input_line or ""

    def _matches(self, pattern: Override, job: list[str]) -> list[Override]:
        """An override for each key that a pattern stands for in a job and the job does not set by itself."""
        if tuple(job) not in self._keys:
            examined = self._examine(job)  # checked, because a file may leave out what has a default
            config: Any = examined.config if isinstance(examined, CheckedJob) else None
            self._keys[tuple(job)] = list(keys_of(config.to_plain())) if hasattr(config, "to_plain") else []
        keys = self._keys[tuple(job)]
        found = matching(pattern, keys)
        self._found |= {pattern.key_or_group} if found else set()
        if keys and not found and not is_optional(pattern):
            groups = " ".join(argument for argument in job if not argument.startswith("++"))
            self._problems.append(no_match(pattern, keys, groups))
        own = {argument.lstrip("+").partition("=")[0] for argument in job}
        lines = [f"{self._prefix(key)}{key}={_given(pattern)}" for key in found if key not in own]
        return self._parser.parse_overrides(lines)

    def _without_patterns(self, good: dict[str, list[Override]]) -> dict[str, list[Override]]:
        """The same with the keys that patterns stand for, for one job or a sweeper that knows no patterns."""
        rest = [override for (override,) in good.values() if not is_pattern(override)]
        first, last = self._corners(rest)
        found = {}
        for argument, (override,) in good.items():
            found[argument] = [override]
            if is_pattern(override):
                found[argument], other = self._matches(override, first), self._matches(override, last)
                if found[argument] != other:
                    message = "stands for other keys in other jobs of a search: search one method at a time"
                    self._problems.append(Problem(as_typed(override.key_or_group), _given(override), message))
        return found

    def _corners(self, overrides: list[Override]) -> list[list[str]]:
        """Two jobs of a sweep that is not known beforehand: the first and the last value of everything."""
        corners = []
        for end in (0, -1):
            corners.append([_end(override, end) for override in overrides])
        return corners

    def _examine(self, job: list[str]) -> CheckedJob | list[Problem]:
        try:
            config, choices = self._composed(job)
            return CheckedJob(job, choices, self._read(plain_values(config)))
        except ConfigurationError as error:
            return error.problems
        except Exception as error:  # whatever Hydra, OmegaConf or YAML raise at a file or an override
            return [_problem_of(error)]

    def _composed(self, job: list[str]) -> tuple[DictConfig, dict[str, str]]:
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
        for override in self._parser.parse_overrides(plain):
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
        return config, choices


def _is_installed(plugin: str) -> bool:
    return find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None


def _product(overrides: Sequence[Override]) -> list[list[str]]:
    """Every combination of choices, as Hydra's basic sweeper makes them."""
    return [job for batch in BasicSweeper.split_arguments(list(overrides), None) for job in batch]


def _given(override: Override) -> str:
    """The value of an override as it was typed."""
    return (override.input_line or "").partition("=")[2]


def _end(override: Override, end: int) -> str:
    """An override with the first or the last value of its sweep."""
    if (interval := interval_of(override)) is not None:
        return f"{override.get_key_element()}={(interval.low, interval.high)[end]}"
    if override.is_sweep_override():
        return f"{override.get_key_element()}={list(override.sweep_string_iterator())[end]}"
    return override.input_line or ""


def _problem_of(error: Exception) -> Problem:
    """A library's complaint about a configuration, on one line."""
    told = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if absent := re.match(r"Could not override '([\w/]+)'\. No match in the defaults list", told):
        group, _, part = absent[1].partition("/")
        message = f"the chosen {group} has no such part" if part else "is no group of this command, see --help"
        return Problem(absent[1], NO_VALUE, message)
    return Problem("configuration", NO_VALUE, (told or type(error).__name__)[:300])
