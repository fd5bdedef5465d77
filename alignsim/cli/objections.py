"""What can be wrong with one override of a command line, whatever else the line says.

Whether keys exist and values are allowed is checked by the schemas, in `alignsim.config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from hydra.core.override_parser.types import Glob, Override

from alignsim.cli.compose import Composition
from alignsim.cli.expand import MOST_JOBS, number_of_values
from alignsim.cli.intervals import interval_of
from alignsim.cli.wildcards import PATTERNS_BELOW, as_typed, is_pattern, typed_value
from alignsim.config.problems import NO_VALUE, Problem

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

#: Keys of Hydra's own that alignsim decides itself, with all that is below them, and what to write instead.
DECIDED_HERE = {
    "hydra.run": "has no effect here: output_dir and study say where results go",
    "hydra.searchpath": "has no effect on the check of a command: --config-dir FOLDER adds YAML files of your own",
    "hydra.sweep": "has no effect here: output_dir and study say where results go",
    "hydra.sweeper.max_batch_size": "has no effect here: finished conditions are skipped, the others run in one batch",
    "hydra.sweeper.params": "belongs into a preset, conf/experiment/NAME.yaml; on the command line write key=a,b",
}

_NEEDS_MULTIRUN = "it needs -m (--multirun) on the command line"


def missing_extra(override: Override) -> str | None:
    """Returns the extra that an option of Hydra's needs and that is not installed; None where nothing is missing."""
    plugin, extra = EXTRAS.get(f"{override.key_or_group}={typed_value(override)}", (None, None))
    installed = find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None
    return None if installed else extra


@dataclass(frozen=True)
class Objections:
    """Checks overrides one by one.

    Attributes:
        composition: what the jobs compose to, which knows the options of each group.
        multirun: whether the line is a sweep.
        planned: False where a sweeper of Hydra's decides the jobs as it goes.
    """

    composition: Composition
    multirun: bool
    planned: bool

    def to(self, override: Override) -> list[Problem]:
        """Returns the problems of an override; those of the first check that finds any."""
        checks = (self._of_hydra, self._of_sign, self._of_sweep, self._of_values, self._of_choice)
        message = next(filter(None, (check(override) for check in checks)), None)
        if message is not None:
            return [Problem(as_typed(override.key_or_group), typed_value(override), message)]
        return self._of_options(override)

    def _of_hydra(self, override: Override) -> str | None:
        """A setting of Hydra's own that would not be obeyed."""
        key = as_typed(override.key_or_group)
        return next((why for decided, why in DECIDED_HERE.items() if f"{key}.".startswith(f"{decided}.")), None)

    def _of_sign(self, override: Override) -> str | None:
        """A `*`, a `?` or a glob where there is nothing for it to stand for."""
        key = as_typed(override.key_or_group)
        if is_pattern(override) and not (self.composition.is_plain(override) and key.startswith(PATTERNS_BELOW)):
            return f"a * or ? stands for keys below {PATTERNS_BELOW} only: method.*.steps=100"
        if isinstance(override.value(), Glob):
            options = self.composition.options(key)
            where = f"of the options of {key}: {', '.join(options)}" if options else "here: it is for groups"
            return f"means none {where}"
        return None

    def _of_sweep(self, override: Override) -> str | None:
        """Several values, or a part of a sweep, where they cannot be."""
        key, several = as_typed(override.key_or_group), override.is_sweep_override()
        if several and not self.multirun:
            return "several values need -m (--multirun) on the command line"
        if key in ("hydra/sweeper", "hydra/launcher") and not self.multirun:
            return f"is for a sweep: {_NEEDS_MULTIRUN}"
        if several and key == "experiment":
            return "takes one preset at a time: each has a sweep and a study of its own"
        if several and key.partition(".")[0] in FOR_THE_WHOLE_SWEEP:
            return "is for the whole sweep: it cannot have several values"
        return None

    def _of_values(self, override: Override) -> str | None:
        """An interval that cannot be drawn from, no values at all, or too many."""
        if (interval := interval_of(override)) is not None:
            above = " above 0" * interval.log
            return None if interval.is_sound else f"must be an interval from a lower end{above} to a higher one"
        count = number_of_values(override)
        if count == 0:
            return "has no values"
        return f"has more than {MOST_JOBS:,} values" if count > MOST_JOBS and self.planned else None

    def _of_choice(self, override: Override) -> str | None:
        """An option whose package is not installed, or which is chosen in another way."""
        key, value = as_typed(override.key_or_group), typed_value(override)
        if (extra := missing_extra(override)) is not None:
            return f'is not installed; pip install "alignsim[{extra}]"'
        group = key.replace(".", "/")
        if "." in key and {*value.split(",")} <= {*(options := self.composition.options(group))}:
            return f"is chosen with {group}={value}; {group} has {', '.join(options)}"
        if key in NAMED_BY and not override.is_delete() and override.value() in (None, ""):
            return f"cannot be left out; {key} has {', '.join(self.composition.options(key))}"
        return None

    def _of_options(self, override: Override) -> list[Problem]:
        """Options that a group does not have, and groups that cannot be left out."""
        key = as_typed(override.key_or_group)
        options = self.composition.options(key)
        listed = f"{key} has {', '.join(options)}"
        if override.is_delete():
            return [Problem(f"~{key}", NO_VALUE, f"cannot be left out; {listed}")] if key in NAMED_BY else []
        if not options or interval_of(override) is not None:
            return []
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
        return [Problem(key, v, f"unknown option; {listed}") for v in values if v is not None and v not in options]
