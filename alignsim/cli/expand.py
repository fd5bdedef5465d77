"""The jobs of a sweep: every combination of choices, for every draw of the intervals, and what patterns stand for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from hydra.core.override_parser.types import Override, RangeSweep

from alignsim.cli.compose import Composition, groups_of, plain_values
from alignsim.cli.intervals import draw_name, drawn, interval_of
from alignsim.cli.wildcards import as_typed, is_optional, is_pattern, matching, no_match, typed_value
from alignsim.config.checking import check
from alignsim.config.problems import NO_VALUE, Problem
from alignsim.config.renames import row_of
from alignsim.config.schema import SearchConfig

#: Conditions of a command at most: each is composed and checked before any is trained.
MOST_JOBS = 100_000


class Planner:
    """What the overrides of one command line mean, job by job.

    Args:
        composition: what jobs compose to.
        prefix: the sign with which Hydra sets a key.
        problems: extended in place.
    """

    def __init__(self, composition: Composition, prefix: Callable[[str], str], problems: list[Problem]) -> None:
        self._composition, self._prefix, self._problems = composition, prefix, problems
        self._matched: set[str] = set()

    def jobs(self, overrides: list[Override]) -> list[list[str]]:
        """Returns the overrides of each job of a sweep; none, and a problem, where there are too many."""
        patterns = [override for override in overrides if is_pattern(override)]
        rest = [override for override in overrides if not is_pattern(override)]
        intervals = [override for override in overrides if interval_of(override) is not None]
        search = self._search(rest, intervals)
        n_trials = search.num_trials or 1
        jobs: list[list[str]] = []
        if n_trials * math.prod(map(number_of_values, rest)) > MOST_JOBS:
            return self._too_many()
        for trial in range(n_trials):
            at_default = intervals if search.include_defaults and trial == 0 else []
            lines = _drawn([override for override in rest if override not in at_default], trial, search)
            for job in _product(self._composition.parse(lines)):
                matches = [o for p in patterns if p not in at_default for o in self._matches(p, job)]
                if len(jobs) + math.prod(map(number_of_values, matches)) > MOST_JOBS:
                    return self._too_many()
                own = self._composition.parse(_drawn(matches, trial, search))
                jobs += [[*job, *more] for more in _product(own)]
        return jobs

    def _too_many(self) -> list[list[str]]:
        self._problems.append(Problem("-m", NO_VALUE, f"more than {MOST_JOBS:,} conditions in one command"))
        return []

    def corners(self, overrides: list[Override]) -> list[list[str]]:
        """Two jobs of a sweep that is not known beforehand: the first and the last value of everything."""
        return [[end_of(override, end) for override in overrides] for end in (0, -1)]

    def without_patterns(self, arguments: dict[str, list[Override]]) -> dict[str, list[Override]]:
        """Returns the arguments with keys instead of patterns, for one job or a sweeper that knows no patterns.

        Args:
            arguments: for each argument that was typed, its override.
        """
        first, last = self.corners([override for (override,) in arguments.values() if not is_pattern(override)])
        replaced = dict(arguments)
        for argument, (pattern,) in arguments.items():
            if is_pattern(pattern):
                replaced[argument], other = self._matches(pattern, first), self._matches(pattern, last)
                if replaced[argument] != other:
                    message = "stands for other keys in other jobs of a search: search one method at a time"
                    self._problems.append(Problem(as_typed(pattern.key_or_group), typed_value(pattern), message))
        return replaced

    def note_patterns_in_vain(self, patterns: list[Override]) -> None:
        """Note the optional patterns that stand for nothing in any job."""
        vain = [o for o in patterns if is_optional(o) and o.key_or_group not in self._matched]
        self._problems += [no_match(pattern, self._composition.keys_seen, "") for pattern in vain]

    def _search(self, overrides: list[Override], intervals: list[Override]) -> SearchConfig:
        """Returns how the intervals of a sweep are drawn; where it has none, there is one trial."""
        if not intervals:
            return SearchConfig()
        fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
        try:
            composed = plain_values(self._composition.compose(fixed)[0])
            # where the search has an old key, checking the first draw will show it
            values = {"num_trials": 1} if any(map(row_of, composed)) else composed.get("search", {})
        except Exception:  # checking the first draw will show why
            values = {"num_trials": 1}
        search = check(SearchConfig, values, "search", self._problems) or SearchConfig(num_trials=1)
        if search.num_trials is None:
            message = "an interval needs search.num_trials=N (random search) or hydra/sweeper=optuna_search"
            self._problems += [Problem(as_typed(o.key_or_group), typed_value(o), message) for o in intervals]
        return search

    def _matches(self, pattern: Override, job: list[str]) -> list[Override]:
        """Returns an override for each key that a pattern stands for in a job and that the job does not set itself."""
        keys = self._composition.keys(job)
        matches = matching(pattern, keys)
        self._matched |= {pattern.key_or_group} if matches else set()
        if keys and not matches and not is_optional(pattern):
            self._problems.append(no_match(pattern, keys, groups_of(job)))
        own = {argument.lstrip("+").partition("=")[0] for argument in job}
        return self._composition.parse(
            [f"{self._prefix(key)}{key}={typed_value(pattern)}" for key in matches if key not in own]
        )


def number_of_values(override: Override) -> int:
    """Returns how many values an override has, without listing them; an interval counts as one."""
    if not override.is_sweep_override() or interval_of(override) is not None:
        return 1
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        return len(list(override.sweep_string_iterator()))
    assert sweep.start is not None  # the grammar has no range without
    assert sweep.stop is not None
    return max(0, math.ceil((sweep.stop - sweep.start) / sweep.step)) if sweep.step else 0


def _product(overrides: Sequence[Override]) -> list[list[str]]:
    """Returns every combination of choices in the order of Hydra's basic sweeper: the last override varies fastest."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        swept = override.is_sweep_override()
        values = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        choices[key] = [f"{key}={value}" for value in values]  # of two overrides of a key the later one counts
    return [list(job) for job in itertools.product(*choices.values())]


def _drawn(overrides: Sequence[Override], trial: int, search: SearchConfig) -> list[str]:
    """Returns overrides as they were typed, but for intervals: each has the value of this trial."""
    keys = [override.key_or_group for override in overrides if interval_of(override) is not None]
    return [
        drawn(override, trial, search.seed, draw_name(override.key_or_group, keys))
        if interval_of(override) is not None
        else override.input_line or ""
        for override in overrides
    ]


def end_of(override: Override, end: int) -> str:
    """Returns an override with the first (0) or the last (-1) value of its sweep."""
    if (interval := interval_of(override)) is not None:
        return f"{override.get_key_element()}={(interval.low, interval.high)[end]}"
    if isinstance(sweep := override.value(), RangeSweep):
        assert sweep.start is not None  # the grammar has no range without
        return f"{override.get_key_element()}={sweep.start + (0, number_of_values(override) - 1)[end] * sweep.step}"
    if override.is_sweep_override():
        return f"{override.get_key_element()}={list(override.sweep_string_iterator())[end]}"
    return override.input_line or ""
