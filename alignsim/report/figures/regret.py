"""The regret of every variant, split into what the reward model cost and what the policy failed to reach of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from alignsim.analysis.statistics import Interval, three
from alignsim.analysis.study import Study, flat, name_of_key
from alignsim.report.figures.layout import WIDTH, finish, new_figure
from alignsim.report.figures.long import LEGEND_ROOM, ForestRow, forest_plot
from alignsim.report.figures.means import intervals, means
from alignsim.report.figures.scales import axis_name, level_line, number_axis, swept_numbers
from alignsim.report.figures.style import (
    Dash,
    Drawing,
    SeriesStyle,
    interval_notes,
    looks,
    more_of,
    name_of,
    seed_counts,
    settings_of,
    with_value,
)

LABEL = "Regret as a share of the reference policy's\n(0 = optimum, 1 = reference policy)"

#: The parts: measure, name, dashes and marker; the whole has the marker of its variant.
_PARTS: dict[str, tuple[str, Dash, str]] = {
    "regret": ("total", "-", ""),
    "statistical_regret": ("statistical part", "--", "d"),
    "computational_regret": ("computational part", ":", "x"),
}
_MOST_VARIANTS, _MOST_SETTINGS = 4, 200

_READING = (
    "The statistical part is how far the best policy for the learned reward stays behind the optimum; "
    "the computational part is what the method's policy did not reach of that, and the two add up to the total. "
    "Where the computational part is below 0, it is better than that one, as it can be if the reward model is wrong."
)


#: Of so many settings at most the title tells the regret.
_MOST_TOLD = 3


def draw(study: Study) -> list[Drawing]:
    """The parts along the one number that was swept, or setting by setting."""
    study = with_value(study)
    rows = study.rows
    split = rows.variant[rows.computational_regret.notna()].unique()
    settings = settings_of(study)
    if not len(split) or len(settings) > _MOST_SETTINGS or study.searched:
        return []
    styles = looks(rows)
    kept = dict([*((v, styles[v]) for v in styles if v in split)][:_MOST_VARIANTS])
    kept |= dict([(v, styles[v]) for v in styles if v not in split][: _MOST_VARIANTS - len(kept) + 1])
    whole = rows.optimal_value - rows.reference_value
    shares = rows[rows.variant.isin(kept)].assign(**{part: rows[part] / whole for part in _PARTS})
    swept = swept_numbers(rows, study.shared)
    if len(study.shared) == 1 and swept:
        return [_along(study, shares, kept, swept[0], len(styles) - len(kept))]
    return [_by_setting(study, shares, kept, settings, len(styles) - len(kept))]


def _along(study: Study, shares: pd.DataFrame, styles: dict[str, SeriesStyle], key: str, dropped: int) -> Drawing:
    figure = new_figure(WIDTH, 4.2)
    axes = figure.subplots()
    number_axis(axes, list(shares[key].unique()), WIDTH - 1.2)
    titles = []
    for part, (_, dash, marker) in _PARTS.items():
        table = means(shares, ["variant", key], part)
        for variant, points in table.groupby("variant"):
            look = styles[str(variant)]
            _draw_line(axes, points, key, SeriesStyle(look.color, marker or look.marker), dash)
            if part == "computational_regret":
                titles.append(_where_it_falls_short(name_of(str(variant)), key, list(points[key]), intervals(points)))
    _mark(axes)
    axes.set_xlabel(axis_name(key))
    axes.set_ylabel(LABEL)
    heading = f"Regret by {name_of_key(key)}"
    return finish("regret_split", heading, titles, _READING, figure, _handles(styles), _notes(study, dropped, "Bands"))


def _draw_line(axes: Axes, points: pd.DataFrame, key: str, look: SeriesStyle, dash: Dash) -> None:
    axes.plot(points[key], points["mean"], color=look.color, marker=look.marker, linestyle=dash, ms=6)
    axes.fill_between(points[key], points.low, points.high, color=look.color, alpha=0.15, linewidth=0)


def _mark(axes: Axes) -> None:
    level_line(axes, 0)
    if axes.get_ylim()[1] > 0.9:
        level_line(axes, 1)


def _by_setting(
    study: Study, shares: pd.DataFrame, styles: dict[str, SeriesStyle], settings: list[str], dropped: int
) -> Drawing:
    by = ["setting", "variant"]
    found = {part: means(shares, by, part) for part in _PARTS}
    ends = {
        (part, *place): interval
        for part, table in found.items()
        for place, interval in zip(table[by].itertuples(index=False, name=None), intervals(table), strict=True)
    }
    rows = [
        [
            ForestRow(SeriesStyle(look.color, marker or look.marker), ends[part, setting, variant], dash=dash)
            for variant, look in styles.items()
            for part, (_, dash, marker) in _PARTS.items()
            if (part, setting, variant) in ends
        ]
        for setting in settings
    ]
    figure = forest_plot([flat(setting) for setting in settings], rows, [], LABEL)
    titles = _told(ends, settings, list(styles))
    notes = _notes(study, dropped, "Bars")
    return finish("regret_split", "Regret by setting", titles, _READING, figure, _handles(styles), notes, LEGEND_ROOM)


def _told(ends: Mapping[tuple[str, str, str], Interval], settings: list[str], variants: list[str]) -> list[str]:
    """The regret of each variant where there are few settings, else in how many the policy itself falls short."""
    if len(settings) <= _MOST_TOLD:
        parts = [
            ", ".join(
                f"{name_of(v)} {three(ends['regret', place, v].mean)}" for v in variants if ("regret", place, v) in ends
            )
            for place in settings
        ]
        told = "; ".join(f"{flat(place)}: {part}" for place, part in zip(settings, parts, strict=True))
        return [f"Regret as a share of the reference policy's: {told}"]
    titles = []
    for variant in variants:
        found = [ends[key] for place in settings if (key := ("computational_regret", place, variant)) in ends]
        if above := sum(interval.lead == 1 for interval in found):
            titles.append(f"The policy itself falls short with {name_of(variant)} in {above} of {len(found)} settings")
        elif found and all(interval.lead is None for interval in found):
            titles.append(f"Too few seeds to say where the policy itself falls short with {name_of(variant)}")
        elif found:
            none = f"in none of {len(found)} settings"
            titles.append(f"The policy itself surely falls short with {name_of(variant)} {none}")
    return titles


def _where_it_falls_short(name: str, key: str, values: list[float], found: list[Interval]) -> str:
    """From which value on, up or down the axis, the computational part is above 0 for this and all that follow."""
    called, short = name_of_key(key), f"The policy itself falls short with {name}"
    if all(interval.lead is None for interval in found):
        return f"Too few seeds to say where the policy itself falls short with {name}"
    above = np.array([interval.lead == 1 for interval in found])
    if above.all():
        return f"{short} at every {called} from {values[0]:g} to {values[-1]:g}"
    if above[-1]:
        return f"{short} from {called} {values[int(np.flatnonzero(~above)[-1]) + 1]:g} on"
    if above[0]:
        return f"{short} up to {called} {values[int(np.flatnonzero(~above)[0]) - 1]:g}"
    if above.any():
        return f"{short} at {above.sum()} of {len(found)} values of {called}"
    return f"The computational part of the regret of {name} is nowhere surely above 0"


def _handles(styles: dict[str, SeriesStyle]) -> list[Artist]:
    parts = [
        Line2D([], [], color="0.3", linestyle=dash, marker=marker or "o", ms=6, label=name)
        for name, dash, marker in _PARTS.values()
    ]
    return [*(look.handle(variant) for variant, look in styles.items()), *parts]


def _notes(study: Study, dropped: int, drawn: str) -> list[str]:
    return [
        f"Marks: mean over {seed_counts(study.rows)} of each seed's regret divided by the reference policy's. "
        f"{drawn}: its interval. "
        "The parts, where there is a reward model, add up to the total: statistical is what the reward model cost, "
        f"computational what the policy failed to reach.{more_of(dropped, 'variant')}",
        *interval_notes(study, study.rows),
    ]
