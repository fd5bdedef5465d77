"""Where modules, classes and functions of earlier versions are now: old imports are refused with the new path.

Configuration keys with new names are in `alignsim.config.renames`. This module imports nothing but the standard
library, because `import alignsim` imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

#: Modules that have another path now. Modules below `alignsim.benchmark` have the same name in its new place.
MODULES = {
    "alignsim.benchmark": "scripts.benchmarking",
    "alignsim.claims": "alignsim.analysis.claims.conditions",
    "alignsim.config.command_line": "alignsim.cli.arguments",
    "alignsim.config.composition": "alignsim.cli.compose",
    "alignsim.config.load": "alignsim.runs.train_config",
    "alignsim.config.patterns": "alignsim.cli.wildcards",
    "alignsim.config.planning": "alignsim.cli.expand",
    "alignsim.config.random_search": "alignsim.cli.intervals",
    "alignsim.envs.preferences": "alignsim.envs.pairs",
    "alignsim.evidence": "alignsim.analysis.claims.samples",
    "alignsim.experiment": "alignsim.runs.condition",
    "alignsim.jobs": "alignsim.runs.job",
    "alignsim.launch": "alignsim.cli.hydra_plugins",
    "alignsim.lazy": "alignsim._lazy",
    "alignsim.ledger": "alignsim.runs.sweep_log",
    "alignsim.machine": "alignsim.runs.hardware",
    "alignsim.methods.optimiser": "alignsim.methods.optimizer",
    "alignsim.methods.supervised": "alignsim.methods.preference_fit",
    "alignsim.models.sampler": "alignsim.models.made_kernels",
    "alignsim.models.scores": "alignsim.models.heads",
    "alignsim.models.value": "alignsim.models.critic",
    "alignsim.page": "alignsim.report.page",
    "alignsim.page.provenance": "alignsim.report.page.provenance",
    "alignsim.page.render": "alignsim.report.page.render",
    "alignsim.plots": "alignsim.report.figures",
    "alignsim.plots.charts": "alignsim.report.figures.charts",
    "alignsim.plots.comparison": "alignsim.report.figures.comparison",
    "alignsim.plots.curves": "alignsim.report.figures.curves",
    "alignsim.plots.frontier": "alignsim.report.figures.frontier",
    "alignsim.plots.layout": "alignsim.report.figures.layout",
    "alignsim.plots.long": "alignsim.report.figures.forest",
    "alignsim.plots.map": "alignsim.report.figures.map",
    "alignsim.plots.means": "alignsim.report.figures.means",
    "alignsim.plots.profiles": "alignsim.report.figures.profiles",
    "alignsim.plots.ranking": "alignsim.report.figures.ranking",
    "alignsim.plots.regret": "alignsim.report.figures.regret",
    "alignsim.plots.scales": "alignsim.report.figures.scales",
    "alignsim.plots.style": "alignsim.report.figures.style",
    "alignsim.plots.sweep": "alignsim.report.figures.complexity",
    "alignsim.plots.tuning": "alignsim.report.figures.search",
    "alignsim.processes": "alignsim.runs.parallel",
    "alignsim.progress": "alignsim.runs.progress",
    "alignsim.reading": "alignsim.analysis.load",
    "alignsim.registry": "alignsim.analysis.claims.preregistration",
    "alignsim.results": "alignsim.runs.storage",
    "alignsim.results.files": "alignsim.runs.storage.atomic",
    "alignsim.results.folder": "alignsim.runs.storage.folder",
    "alignsim.results.lock": "alignsim.runs.storage.lock",
    "alignsim.results.states": "alignsim.runs.storage.state",
    "alignsim.results.survey": "alignsim.runs.storage.survey",
    "alignsim.results.tables": "alignsim.runs.storage.table",
    "alignsim.results.versions": "alignsim.runs.storage.versions",
    "alignsim.results.weights": "alignsim.runs.storage.tensors",
    "alignsim.statistics": "alignsim.analysis.statistics",
    "alignsim.streams": "alignsim.envs.rng",
    "alignsim.study": "alignsim.analysis.study",
    "alignsim.summary": "alignsim.analysis.summary",
    "alignsim.sweep": "alignsim.runs.sweep",
    "alignsim.training": "alignsim.cli.train",
    "alignsim.tuning": "alignsim.analysis.search",
    "alignsim.verdicts": "alignsim.analysis.claims.verdicts",
    "alignsim.wording": "alignsim.analysis.claims.text",
}

#: Classes and functions that have another name or another module now, by their old path.
NAMES = {
    "alignsim.claims.by_value_of": "alignsim.analysis.claims.conditions.group_by_swept_value",
    "alignsim.claims.sides": "alignsim.analysis.claims.conditions.claim_conditions",
    "alignsim.cli.existing_study": "alignsim.cli.main.existing_study",
    "alignsim.cli.Terminated": "alignsim.cli.main.Terminated",
    "alignsim.config.command_line.EXTRAS": "alignsim.cli.objections.EXTRAS",
    "alignsim.config.command_line.FOR_THE_WHOLE_SWEEP": "alignsim.cli.objections.FOR_THE_WHOLE_SWEEP",
    "alignsim.config.command_line.NAMED_BY": "alignsim.cli.objections.NAMED_BY",
    "alignsim.config.composition.conf_dir": "alignsim.config.defaults.conf_dir",
    "alignsim.config.composition.config_store_shared": "alignsim.cli.hydra_compat.share_config_store",
    "alignsim.config.patterns.given": "alignsim.cli.wildcards.typed_value",
    "alignsim.config.schema.RandomSearch": "alignsim.config.schema.SearchConfig",
    "alignsim.evidence.Evidence": "alignsim.analysis.claims.samples.ClaimSamples",
    "alignsim.evidence.evidence_of": "alignsim.analysis.claims.samples.samples_of",
    "alignsim.evidence.NoEvidenceError": "alignsim.analysis.claims.samples.NoSamplesError",
    "alignsim.experiment.Checkpoint": "alignsim.runs.recorder.Checkpoint",
    "alignsim.experiment.Recorder": "alignsim.runs.recorder.Recorder",
    "alignsim.jobs.Report": "alignsim.runs.job.JobResult",
    "alignsim.launch.taking_part": "alignsim.cli.hydra_plugins.SweepTask",
    "alignsim.ledger.duration": "alignsim.runs.text.duration",
    "alignsim.ledger.Ledger": "alignsim.runs.sweep_log.SweepLog",
    "alignsim.methods.base.Task": "alignsim.methods.base.TrainingInputs",
    "alignsim.methods.base.Trained": "alignsim.methods.base.TrainingResult",
    "alignsim.methods.dpo.labelled_dpo_loss": "alignsim.methods.losses.labeled_dpo_loss",
    "alignsim.methods.kto.Weights": "alignsim.methods.losses.Weights",
    "alignsim.methods.losses.generalised_advantage": "alignsim.methods.losses.generalized_advantage",
    "alignsim.methods.losses.group_normalised_advantage": "alignsim.methods.losses.group_normalized_advantage",
    "alignsim.methods.losses.kl_penalised_reward": "alignsim.methods.losses.kl_penalized_reward",
    "alignsim.methods.on_policy.fresh_responses": "alignsim.methods.on_policy.SampledLearner",
    "alignsim.methods.on_policy.PolicyFit": "alignsim.methods.on_policy.OnPolicyConfig",
    "alignsim.methods.on_policy.Responses": "alignsim.methods.on_policy.Batch",
    "alignsim.methods.on_policy.Stage": "alignsim.methods.on_policy.OnPolicyLearner",
    "alignsim.methods.on_policy.Step": "alignsim.methods.on_policy.Batch",
    "alignsim.methods.on_policy.take_steps": "alignsim.methods.on_policy.train_on_policy",
    "alignsim.methods.online_dpo.OwnPairs": "alignsim.methods.online_dpo.OnlinePairsConfig",
    "alignsim.methods.optimiser.Optimisation": "alignsim.methods.optimizer.OptimizerConfig",
    "alignsim.methods.optimiser.Optimiser": "alignsim.methods.optimizer.StackedAdamW",
    "alignsim.methods.optimiser.tuned": "alignsim.config.defaults.yaml_default",
    "alignsim.methods.raft.Imitation": "alignsim.methods.raft.ImitationConfig",
    "alignsim.methods.rl.base.PolicyOptimiser": "alignsim.methods.rl.base.PolicyOptimizer",
    "alignsim.methods.supervised.Best": "alignsim.methods.preference_fit.BestCheckpoint",
    "alignsim.methods.supervised.minibatches": "alignsim.methods.preference_fit.Minibatches",
    "alignsim.methods.supervised.Supervised": "alignsim.methods.preference_fit.PreferenceFitConfig",
    "alignsim.methods.two_stage.REWARD_MODEL": "alignsim.methods.two_stage.default_reward_fit",
    "alignsim.models.base.Fit": "alignsim.models.base.FitSummary",
    "alignsim.models.network.by_response": "alignsim.models.network.to_kernel_layout",
    "alignsim.models.network.Written": "alignsim.models.network.Generated",
    "alignsim.models.policy.Writer": "alignsim.models.policy.PolicySampler",
    "alignsim.models.scores.Activations": "alignsim.models.made_kernels.Activations",
    "alignsim.models.scores.bounded": "alignsim.models.heads.clamp_log_probs",
    "alignsim.models.scores.centred_head": "alignsim.models.heads.centered_head",
    "alignsim.models.scores.scored": "alignsim.models.made_kernels.differentiable_scores",
    "alignsim.models.transformer.affine": "alignsim.models.transformer.linear",
    "alignsim.models.transformer.normalised": "alignsim.models.transformer.normalized",
    "alignsim.models.value.mean_head": "alignsim.models.heads.mean_head",
    "alignsim.plots.long.draw_long": "alignsim.report.figures.forest.forest_plot",
    "alignsim.plots.long.Lane": "alignsim.report.figures.forest.ForestRow",
    "alignsim.plots.style.known_look": "alignsim.report.figures.style.known_style",
    "alignsim.plots.style.Look": "alignsim.report.figures.style.SeriesStyle",
    "alignsim.plots.style.looks": "alignsim.report.figures.style.series_styles",
    "alignsim.plots.style.spread": "alignsim.report.figures.style.evenly_spaced",
    "alignsim.progress.Teller": "alignsim.runs.progress.ProgressEmitter",
    "alignsim.registry.Registered": "alignsim.analysis.claims.preregistration.RegisteredClaim",
    "alignsim.registry.Registry": "alignsim.analysis.claims.preregistration.Preregistration",
    "alignsim.registry.registry_of": "alignsim.analysis.claims.preregistration.load_preregistration",
    "alignsim.report.report": "alignsim.report.draw.report_study",
    "alignsim.results.files.DamagedError": "alignsim.runs.storage.atomic.CorruptFileError",
    "alignsim.results.files.write_folder_whole": "alignsim.runs.storage.atomic.write_folder_atomically",
    "alignsim.results.files.write_whole": "alignsim.runs.storage.atomic.write_atomically",
    "alignsim.results.states.Prospect": "alignsim.runs.storage.state.PlannedState",
    "alignsim.results.tables.by_seed": "alignsim.runs.storage.table.join_by_seed",
    "alignsim.results.tables.read_text": "alignsim.runs.storage.table.read_frame",
    "alignsim.results.tables.span": "alignsim.runs.text.format_seed_ranges",
    "alignsim.results.versions.stranger": "alignsim.runs.storage.versions.origin_mismatch",
    "alignsim.statistics.three": "alignsim.runs.text.three_decimals",
    "alignsim.study.KNOB": "alignsim.analysis.study.COMPLEXITY_KEY",
    "alignsim.study.paired": "alignsim.analysis.study.paired_differences",
    "alignsim.summary.seeds_text": "alignsim.report.terminal.seeds_behind",
    "alignsim.summary.summary": "alignsim.analysis.summary.summarize",
    "alignsim.summary.summary_text": "alignsim.report.terminal.summary_table",
    "alignsim.summary.verdicts_shown": "alignsim.report.terminal.verdict_table",
    "alignsim.training.carry_out": "alignsim.cli.train.run_command",
    "alignsim.tuning.best": "alignsim.analysis.search.best_trials",
    "alignsim.tuning.interval_of": "alignsim.analysis.search.trial_interval",
    "alignsim.tuning.tuning_text": "alignsim.report.terminal.best_trials_table",
    "alignsim.verdicts.Outcome": "alignsim.analysis.claims.verdicts.VerdictOutcome",
    "alignsim.verdicts.verdicts_text": "alignsim.analysis.claims.verdicts.verdicts_json",
    "alignsim.wording.as_typed": "alignsim.analysis.claims.text.typed_command",
    "alignsim.wording.counted": "alignsim.runs.text.counted",
    "alignsim.wording.limit": "alignsim.analysis.claims.text.threshold",
    "alignsim.wording.where_predicted": "alignsim.analysis.claims.text.predicted_range",
}


def new_path(path: str) -> str | None:
    """The import path that replaces an old one of a module, a class or a function; None where the path is not old.

    >>> new_path("alignsim.experiment.run_experiment")
    'alignsim.runs.condition.run_experiment'
    """
    if path in NAMES:
        return NAMES[path]
    module, rest = path, ""
    while module and module not in MODULES:
        module, _, name = module.rpartition(".")
        rest = f".{name}{rest}"
    return f"{MODULES[module]}{rest}" if module else None


def refuse_old_path(path: str) -> None:
    """Refuse an import path that has moved.

    Raises:
        ImportError: the path has moved; the text names the new one.
    """
    if (new := new_path(path)) is not None:
        raise ImportError(f"{path} is now {new}{_moved_below(path)}", name=path)


def _moved_below(path: str) -> str:
    """Which parts of an old module have another name now: Python imports a package before the module that was meant."""
    below = {old: new for old, new in {**MODULES, **NAMES}.items() if old.startswith(f"{path}.")}
    renamed = [
        f"{old[len(path) + 1 :]}: {new}" for old, new in below.items() if new != f"{MODULES[path]}{old[len(path) :]}"
    ]
    return f" ({', '.join(renamed)})" if renamed else ""


class _OldPaths(MetaPathFinder):
    """Refuses old modules, and gives modules that lost a name a `__getattr__` (PEP 562) which refuses it.

    It comes first, because it has to see those modules; of all others it says at once that it does not know them.
    A `__getattr__` in the text of a module would keep type checkers from finding misspelled names in it.
    """

    def __init__(self) -> None:
        self._with_old_names = {path.rpartition(".")[0] for path in NAMES} - set(MODULES)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, or the spec of a module that lost a name."""
        if name in MODULES:
            refuse_old_path(name)
        if name not in self._with_old_names or (spec := PathFinder.find_spec(name, path, target)) is None:
            return None
        if spec.loader is not None:
            setattr(spec.loader, "exec_module", partial(_execute, spec.loader.exec_module))  # noqa: B010 (for mypy)
        return spec


def _execute(execute: Any, module: ModuleType) -> None:
    """Execute a module; whoever asks it for an old name is refused from then on."""

    def refuse(name: str) -> NoReturn:
        refuse_old_path(f"{module.__name__}.{name}")
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    execute(module)
    vars(module)["__getattr__"] = refuse


def refuse_old_imports() -> None:
    """From now on, let imports of old paths fail with the new ones."""
    if not any(isinstance(finder, _OldPaths) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OldPaths())
