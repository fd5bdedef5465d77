"""Forest plots, for many conditions: a row for each, with marks and intervals in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alignsim.analysis.statistics import Interval
from alignsim.report.figures.layout import WIDTH, new_figure
from alignsim.report.figures.scales import mark_reference_and_optimum, value_limits
from alignsim.report.figures.style import (
    Dash,
    SeriesStyle,
    broken,
    shortened,
)

_NAME_CHARACTERS, _NAME_LINES, _MOST_NAME_LINES = 44, 2, 5

#: The width in inches of a legend above the rows.
LEGEND_ROOM = 4.5


@dataclass(frozen=True)
class ForestRow:
    """A line of marks in a forest plot; several of them may share a name.

    Attributes:
        style: the color and marker.
        interval: the mean and its interval.
        seeds: one number for each seed, (n,), drawn as pale marks.
        dash: how the line of the interval is dashed.
    """

    style: SeriesStyle
    interval: Interval
    seeds: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    dash: Dash = "-"


def forest_plot(
    names: Sequence[str], groups: Sequence[Sequence[ForestRow]], remarks: Sequence[str], label: str
) -> Figure:
    """Draws a group of rows for each name, from the top down.

    Args:
        names: the name of each group. It is cut off after two lines, later where names would else be the same.
        groups: the rows of each.
        remarks: the text at the right of each group.
        label: the label of the axis of the numbers.
    """
    names = _cut(names)
    deepest = max(map(len, groups))
    text_lines = max(text.count("\n") + 1 for text in (*remarks, *names))
    inches = max(0.11 * deepest + 0.08, 0.15 * text_lines + 0.06)
    figure = new_figure(WIDTH, 0.9 + inches * len(names))
    axes = figure.subplots()
    numbers = [v for group in groups for row in group for v in (*row.interval[:3], *row.seeds)]
    axes.set_xlim(*value_limits(np.nanmin(numbers), np.nanmax(numbers)))
    axes.set_ylim(len(names) - 0.4, -0.6)
    for y, group in enumerate(groups):
        for k, row in enumerate(group):
            _draw_row(axes, y + 0.7 * ((k + 0.5) / len(group) - 0.5), row)
    for y in range(0, len(names), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="0.96", zorder=-2, linewidth=0)
    mark_reference_and_optimum(axes, along="x")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(label)
    for y, text in enumerate(remarks):
        axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), fontsize=8, va="center", linespacing=1.0)
    return figure


def _cut(names: Sequence[str]) -> list[str]:
    """The names on as few lines as tell them apart."""
    cut: list[str] = []
    for lines in range(_NAME_LINES, _MOST_NAME_LINES + 1):
        cut = [broken(shortened(name, lines * _NAME_CHARACTERS - 8), _NAME_CHARACTERS) for name in names]
        cut = ["\n".join(name.splitlines()[:lines]) for name in cut]
        if len(set(cut)) == len(set(names)):
            break
    return cut


def _draw_row(axes: Axes, y: float, row: ForestRow) -> None:
    mean, low, high, n = row.interval
    style = row.style
    axes.scatter(row.seeds, np.full(len(row.seeds), y), s=7, color=style.color, alpha=0.3, linewidths=0, marker="o")
    if n > 1:
        axes.plot([low, high], [y, y], color=style.color, lw=1.6, linestyle=row.dash, solid_capstyle="butt")
    axes.plot([mean], [y], marker=style.marker, color=style.color, ms=4.5, linestyle="none")
