"""Learning curves: losses on pairs, the true value of the policy, and both rewards where it learns from samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from alignsim.analysis.load import load_histories
from alignsim.analysis.study import Study, flat
from alignsim.report.figures.layout import columns_of, finish, new_figure
from alignsim.report.figures.means import intervals, means
from alignsim.report.figures.scales import level_line
from alignsim.report.figures.style import (
    Dash,
    Drawing,
    SeriesStyle,
    broken,
    evenly_spaced,
    interval_notes,
    more_of,
    name_of,
    seed_counts,
    series_styles,
    settings_of,
    signed,
)

#: The most settings, variants and points of a curve that are drawn, evenly spaced.
_MOST_SETTINGS, _MOST_VARIANTS, _MOST_POINTS = 6, 4, 41

#: The most points times seeds of a curve: with many seeds fewer points are drawn, to save time.
_IN_A_CURVE = 2000


@dataclass(frozen=True)
class _Panel:
    """A row of the figure: its label, the measure that is drawn solid with a band, and the dashed one."""

    label: str
    solid: str
    dashed: str = ""
    dashed_band: bool = False


_LOSSES = ("validation_loss", "training_loss")

_PANELS = (
    _Panel("Loss, mean over pairs\n(solid: validation,\ndashed: training)", *_LOSSES),
    _Panel("True normalized value\nof the policy", "normalized_value"),
    _Panel("Reward of the policy\n(solid: true,\ndashed: learned)", "true_reward", "learned_reward", dashed_band=True),
)

#: The first panel where losses are of different kinds, so that one scale serves all of them.
_RELATIVE = _Panel("Loss over that at the start\n(solid: validation,\ndashed: training)", *_LOSSES)

#: Losses at the start that differ by a larger factor are of different kinds.
_AS_GOOD_AS_EQUAL = 2

#: With more settings the title does not say what the rewards are at the end.
_MOST_IN_TITLE = 3

_READING = (
    "In the top row, a validation loss that rises while the training loss falls means overfitting; training keeps the "
    "weights with the lowest validation loss. Losses of different kinds cannot be compared. "
    "The middle row shows how good the policy truly is while it trains. "
    "In the bottom row, the policy exploits errors of its reward model where the learned reward exceeds the true one. "
    "The numbers are in the history.csv of each condition."
)


def draw(study: Study) -> list[Drawing]:
    """Draws a column for each setting; nothing where no training curves exist."""
    settings = settings_of(study)
    shown = evenly_spaced(settings, _MOST_SETTINGS)
    styles = dict(list(series_styles(study.rows).items())[:_MOST_VARIANTS])
    if study.folder is None or "run" not in study.rows or study.searched:
        return []
    rows = study.rows[study.rows.setting.isin(shown) & study.rows.variant.isin(styles)]
    curves = _carried_on(load_histories(study, rows.run.unique())).merge(rows[["run", "seed", "setting", "variant"]])
    for name in {"true_reward", *(measure for panel in _PANELS for measure in (panel.solid, panel.dashed))} - {""}:
        curves[name] = curves.get(name, np.nan)
    curves["true_reward"] = curves.true_reward.where(_on_own_samples(curves))
    curves["learned_reward"] = curves.learned_reward.where(_has_learned_from_pairs(curves))
    before = _before(curves)
    if relative := before.max() > _AS_GOOD_AS_EQUAL * before.min() > 0:
        curves[list(_LOSSES)] = curves[list(_LOSSES)].div(before, axis=0)
    panels = [_RELATIVE if relative and panel is _PANELS[0] else panel for panel in _PANELS]
    panels = [panel for panel in panels if curves[panel.solid].notna().any()]
    if not panels:
        return []
    shown = [setting for setting in shown if (curves.setting == setting).any()]
    hidden = (len(settings) - len(shown), study.rows.variant.nunique() - len(styles))
    return [_draw_curves(study, curves, panels, shown, styles, hidden)]


def _carried_on(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves, where a seed that stopped before others of its stage continues with its last numbers."""
    stages = []
    for (run, stage), rows in curves.groupby(["run", "stage"], sort=False):
        wide = rows.drop(columns=["run", "stage"]).pivot_table(index="step", columns="seed", dropna=False)
        recorded = wide.notna().T.groupby(level=0).any().T  # whether any seed has a measure at a step
        carried = wide.ffill().where(recorded.reindex(columns=wide.columns, level=0))
        stages.append(carried.stack("seed", future_stack=True).reset_index().assign(run=str(run), stage=str(stage)))
    return pd.concat(stages, ignore_index=True) if stages else curves


def _before(curves: pd.DataFrame) -> pd.Series[float]:
    """The first validation loss of the stage and seed of each row, usually the loss before the first step."""
    ordered = curves.sort_values("step")
    return ordered.groupby(["run", "stage", "seed"]).validation_loss.transform("first").reindex(curves.index)


def _on_own_samples(curves: pd.DataFrame) -> pd.Series[bool]:
    """Whether each row belongs to a stage in which a policy learns from rewards of its own samples."""
    return curves.learned_reward.notna().groupby([curves.run, curves.stage]).transform("any")


def _has_learned_from_pairs(curves: pd.DataFrame) -> pd.Series[bool]:
    """Whether each row is of a run that fitted something to pairs; other runs use the true reward."""
    return curves.validation_loss.notna().groupby(curves.run).transform("any")


def _draw_curves(
    study: Study,
    curves: pd.DataFrame,
    panels: list[_Panel],
    shown: list[str],
    styles: dict[str, SeriesStyle],
    hidden: tuple[int, int],
) -> Drawing:
    width = float(np.clip(1.0 + 1.6 * len(shown), 7.2, 10.2))
    characters = int(10.5 * (width - 1.0) / len(shown))
    names = [broken(setting, characters - 1) for setting in shown]
    lines = max(name.count("\n") + 1 for name in names)
    figure = new_figure(width, 0.6 + 0.15 * lines + 1.75 * len(panels))
    grid = columns_of(figure, len(panels), len(shown))
    for panel, row in zip(panels, grid, strict=True):
        _draw_row(panel, dict(zip(shown, row, strict=True)), curves, styles)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    last = float(curves.step.max())
    for axes in grid[-1]:
        axes.set_xlabel("Step of the stage", fontsize=9)
        axes.set_xlim(-0.03 * last, 1.03 * last)
        axes.locator_params(axis="x", nbins=3 if len(shown) > 3 else 5)
    handles = [style.handle(variant) for variant, style in styles.items() if (curves.variant == variant).any()]
    notes = _notes(study, hidden, with_rewards=len(panels) == len(_PANELS))
    titles = _titles(curves, list(styles), len(shown))
    return finish("learning_curves", "Learning curves", titles, _READING, figure, handles, notes)


def _draw_row(panel: _Panel, by_setting: dict[str, Axes], curves: pd.DataFrame, styles: dict[str, SeriesStyle]) -> None:
    """Draws the measures of a panel in the axes of every setting."""
    next(iter(by_setting.values())).set_ylabel(panel.label, fontsize=9)
    _draw_measure(by_setting, curves, panel.solid, styles, "-", band=True)
    if panel.dashed:
        _draw_measure(by_setting, curves, panel.dashed, styles, "--", band=panel.dashed_band)
    if panel.solid == "normalized_value":
        for axes in by_setting.values():
            level_line(axes, 0)
            level_line(axes, 1)


def _notes(study: Study, hidden: tuple[int, int], with_rewards: bool) -> list[str]:
    """What the lines are, how many settings and variants are hidden, and what the rewards are measured on."""
    lines = f"Lines: mean over {seed_counts(study.rows)}; a seed that has stopped keeps its last value. "
    notes = [lines + "Bands: its interval." + more_of(hidden[0], "setting") + more_of(hidden[1], "variant")]
    rewards = "Rewards: learned on the samples that the policy trains on, true on held-out prompts."
    return notes + [rewards] * with_rewards + interval_notes(study, study.rows)


def _draw_measure(
    axes: dict[str, Axes], curves: pd.DataFrame, measure: str, styles: dict[str, SeriesStyle], dash: Dash, band: bool
) -> None:
    """Draws one measure in the axes of every setting, a line for each variant."""
    by = ["variant", "setting", "stage", "step"]
    known = _thinned(curves[[*by, "seed", measure]].dropna(subset=measure))
    table = means(known, by, measure) if band else known.groupby(by).agg(mean=(measure, "mean")).reset_index()
    for (variant, setting, _), points in table.groupby(by[:3]):
        style, width = styles[str(variant)], 1.8 if dash == "-" else 1.1
        axes[str(setting)].plot(points.step, points["mean"], color=style.color, linestyle=dash, lw=width)
        if dash == "-":
            marks = points.iloc[[-1]]
            axes[str(setting)].plot(marks.step, marks["mean"], color=style.color, marker=style.marker, ms=5)
        if band:
            axes[str(setting)].fill_between(
                points.step, points.low, points.high, color=style.color, alpha=0.2, linewidth=0
            )


def _thinned(known: pd.DataFrame) -> pd.DataFrame:
    """The rows at the steps of each curve that are drawn, evenly spaced among those that all its seeds reached."""
    by = ["variant", "setting", "stage"]
    counts = known.groupby([*by, "step"]).size().rename("n").reset_index()
    counts = counts[counts.n == counts.groupby(by).n.transform("max")]
    most = int(np.clip(_IN_A_CURVE / max(known.seed.nunique(), 1), 11, _MOST_POINTS))
    drawn = [group.iloc[evenly_spaced(range(len(group)), most)] for _, group in counts.groupby(by)]
    return known.merge(pd.concat(drawn)[[*by, "step"]]) if drawn else known


def _titles(curves: pd.DataFrame, variants: list[str], n_settings: int) -> list[str]:
    """How far the learned reward exceeds the true one at the end, where the settings are few enough to be listed."""
    titles = ["Losses, true value and rewards along training"]
    both = curves.assign(exploited=curves.learned_reward - curves.true_reward).dropna(subset="exploited")
    ends = both.sort_values("step").groupby(["variant", "setting", "seed"], as_index=False).last()
    if len(ends) > 0 and n_settings <= _MOST_IN_TITLE:
        table = means(ends, ["variant", "setting"], "exploited")
        parts = []
        for variant, setting, interval in zip(table.variant, table.setting, intervals(table), strict=True):
            where = f" in {flat(str(setting))}" if n_settings > 1 else ""
            parts += [f"{signed(interval)} with {name_of(variant)}{where}"] * (variant in variants)
        titles.append(f"Learned minus true reward at the end of training: {'; '.join(parts)}")
    return titles
