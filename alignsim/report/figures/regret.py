"""The regret of every variant, split into what the reward model cost and what the policy failed to reach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from alignsim.analysis.statistics import Interval
from alignsim.analysis.study import Study, flat, name_of_key
from alignsim.report.figures.forest import LEGEND_ROOM, ForestRow, forest_plot
from alignsim.report.figures.layout import WIDTH, finish, new_figure
from alignsim.report.figures.means import intervals, means
from alignsim.report.figures.scales import axis_name, level_line, number_axis, swept_numbers
from alignsim.report.figures.style import (
    Dash,
    Drawing,
    SeriesStyle,
    interval_notes,
    more_of,
    name_of,
    seed_counts,
    series_styles,
    settings_of,
    with_value,
)
from alignsim.runs.text import three_decimals

LABEL = "Regret as a share of the reference policy's\n(0 = optimum, 1 = reference policy)"

#: The parts: measure, name, dashes and marker; the total has the marker of its variant.
_PARTS: dict[str, tuple[str, Dash, str]] = {
    "regret": ("total", "-", ""),
    "statistical_regret": ("statistical part", "--", "d"),
    "computational_regret": ("computational part", ":", "x"),
}
_MOST_VARIANTS, _MOST_SETTINGS = 4, 200

_READING = (
    "The statistical part is how far the best policy for the learned reward is from the optimum. "
    "The computational part is how far the method's policy is from that best policy; the two add up to the total. "
    "It is negative where the method's policy is better, which can happen because the reward model has errors."
)


#: With more settings the title counts settings instead of listing the regret in each.
_MOST_IN_TITLE = 3


def draw(study: Study) -> list[Drawing]:
    """Draws the parts along the one number that was swept, or setting by setting."""
    study = with_value(study)
    rows = study.rows
    split = rows.variant[rows.computational_regret.notna()].unique()
    settings = settings_of(study)
    if not len(split) or len(settings) > _MOST_SETTINGS or study.searched:
        return []
    styles = series_styles(rows)
    drawn = dict([*((v, styles[v]) for v in styles if v in split)][:_MOST_VARIANTS])
    drawn |= dict([(v, styles[v]) for v in styles if v not in split][: _MOST_VARIANTS - len(drawn) + 1])
    whole = rows.optimal_value - rows.reference_value
    shares = rows[rows.variant.isin(drawn)].assign(**{part: rows[part] / whole for part in _PARTS})
    swept = swept_numbers(rows, study.shared)
    if len(study.shared) == 1 and swept:
        return [_along(study, shares, drawn, swept[0], len(styles) - len(drawn))]
    return [_by_setting(study, shares, drawn, settings, len(styles) - len(drawn))]


def _along(study: Study, shares: pd.DataFrame, styles: dict[str, SeriesStyle], key: str, dropped: int) -> Drawing:
    figure = new_figure(WIDTH, 4.2)
    axes = figure.subplots()
    number_axis(axes, list(shares[key].unique()), WIDTH - 1.2)
    titles = []
    for part, (_, dash, marker) in _PARTS.items():
        table = means(shares, ["variant", key], part)
        for variant, points in table.groupby("variant"):
            style = styles[str(variant)]
            _draw_line(axes, points, key, SeriesStyle(style.color, marker or style.marker), dash)
            if part == "computational_regret":
                titles.append(_where_it_falls_short(name_of(str(variant)), key, list(points[key]), intervals(points)))
    _mark(axes)
    axes.set_xlabel(axis_name(key))
    axes.set_ylabel(LABEL)
    heading = f"Regret by {name_of_key(key)}"
    return finish("regret_split", heading, titles, _READING, figure, _handles(styles), _notes(study, dropped, "Bands"))


def _draw_line(axes: Axes, points: pd.DataFrame, key: str, style: SeriesStyle, dash: Dash) -> None:
    axes.plot(points[key], points["mean"], color=style.color, marker=style.marker, linestyle=dash, ms=6)
    axes.fill_between(points[key], points.low, points.high, color=style.color, alpha=0.15, linewidth=0)


def _mark(axes: Axes) -> None:
    level_line(axes, 0)
    if axes.get_ylim()[1] > 0.9:
        level_line(axes, 1)


def _by_setting(
    study: Study, shares: pd.DataFrame, styles: dict[str, SeriesStyle], settings: list[str], dropped: int
) -> Drawing:
    by = ["setting", "variant"]
    tables = {part: means(shares, by, part) for part in _PARTS}
    ends = {
        (part, *condition): interval
        for part, table in tables.items()
        for condition, interval in zip(table[by].itertuples(index=False, name=None), intervals(table), strict=True)
    }
    rows = [
        [
            ForestRow(SeriesStyle(style.color, marker or style.marker), ends[part, setting, variant], dash=dash)
            for variant, style in styles.items()
            for part, (_, dash, marker) in _PARTS.items()
            if (part, setting, variant) in ends
        ]
        for setting in settings
    ]
    figure = forest_plot([flat(setting) for setting in settings], rows, [], LABEL)
    titles = _titles(ends, settings, list(styles))
    notes = _notes(study, dropped, "Bars")
    return finish("regret_split", "Regret by setting", titles, _READING, figure, _handles(styles), notes, LEGEND_ROOM)


def _titles(ends: Mapping[tuple[str, str, str], Interval], settings: list[str], variants: list[str]) -> list[str]:
    """The regret of each variant where there are few settings; else in how many the policy itself falls short."""
    if len(settings) <= _MOST_IN_TITLE:
        return [_regrets(ends, settings, variants)]
    titles = []
    for variant in variants:
        parts = [ends[key] for setting in settings if (key := ("computational_regret", setting, variant)) in ends]
        if above := sum(interval.lead == 1 for interval in parts):
            titles.append(f"The policy itself falls short with {name_of(variant)} in {above} of {len(parts)} settings")
        elif parts and all(interval.lead is None for interval in parts):
            titles.append(f"Too few seeds to say where the policy itself falls short with {name_of(variant)}")
        elif parts:
            none = f"in none of {len(parts)} settings"
            titles.append(f"The policy itself falls significantly short with {name_of(variant)} {none}")
    return titles


def _regrets(ends: Mapping[tuple[str, str, str], Interval], settings: list[str], variants: list[str]) -> str:
    """The mean regret of each variant in each setting."""
    parts = []
    for setting in settings:
        present = [variant for variant in variants if ("regret", setting, variant) in ends]
        numbers = [f"{name_of(v)} {three_decimals(ends['regret', setting, v].mean)}" for v in present]
        parts.append(f"{flat(setting)}: {', '.join(numbers)}")
    return f"Regret as a share of the reference policy's: {'; '.join(parts)}"


def _where_it_falls_short(name: str, key: str, values: list[float], parts: list[Interval]) -> str:
    """From which value on, up or down the axis, the computational part stays above 0."""
    called, short = name_of_key(key), f"The policy itself falls short with {name}"
    if all(interval.lead is None for interval in parts):
        return f"Too few seeds to say where the policy itself falls short with {name}"
    above = np.array([interval.lead == 1 for interval in parts])
    if above.all():
        return f"{short} at every {called} from {values[0]:g} to {values[-1]:g}"
    if above[-1]:
        return f"{short} from {called} {values[int(np.flatnonzero(~above)[-1]) + 1]:g} on"
    if above[0]:
        return f"{short} up to {called} {values[int(np.flatnonzero(~above)[0]) - 1]:g}"
    if above.any():
        return f"{short} at {above.sum()} of {len(parts)} values of {called}"
    return f"The computational part of the regret of {name} is nowhere significantly above 0"


def _handles(styles: dict[str, SeriesStyle]) -> list[Artist]:
    parts = [
        Line2D([], [], color="0.3", linestyle=dash, marker=marker or "o", ms=6, label=name)
        for name, dash, marker in _PARTS.values()
    ]
    return [*(style.handle(variant) for variant, style in styles.items()), *parts]


def _notes(study: Study, dropped: int, drawn: str) -> list[str]:
    return [
        f"Marks: mean over {seed_counts(study.rows)} of each seed's regret divided by the reference policy's. "
        f"{drawn}: its interval. "
        "Where there is a reward model, two parts add up to the total: statistical, what the reward model cost, and "
        f"computational, what the policy failed to reach.{more_of(dropped, 'variant')}",
        *interval_notes(study, study.rows),
    ]
