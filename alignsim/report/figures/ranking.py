"""Many methods in one figure: a row for each, ordered by value, with the reference policy and the optimum marked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alignsim.analysis.study import MANY_METHODS, Study, flat
from alignsim.report.figures.layout import WIDTH, finish, new_figure
from alignsim.report.figures.means import ENDS, means
from alignsim.report.figures.scales import mark_reference_and_optimum, value_limits
from alignsim.report.figures.style import (
    Drawing,
    broken,
    interval_notes,
    known_style,
    name_of,
    seed_counts,
    settings_of,
    shortened,
    with_value,
)
from alignsim.runs.text import three_decimals

#: The most settings and rows of a readable figure.
_MOST_SETTINGS, _MOST_ROWS = 4, 60

#: Smaller values are not drawn to scale: an arrow points to them, and their number is printed.
FLOOR = -0.5

_NAME_CHARACTERS = 34


_READING = (
    "Rows are methods, ordered by value in the setting where methods differ most. A dot is the mean over seeds, "
    "the line through it is its 95 % interval, and the number at the right is the mean. A policy at 1 is optimal; "
    "a policy at 0 is no better than the reference policy. Neighbors in the order need not differ: seeds are "
    "paired, so only paired differences tell."
)


def draw(study: Study) -> list[Drawing]:
    """Draws a dot and an interval for each method, settings side by side, in the order of where methods differ most."""
    study = with_value(study)
    settings = settings_of(study)
    if study.rows.method.nunique() < MANY_METHODS or not 1 <= len(settings) <= _MOST_SETTINGS or study.searched:
        return []
    table = means(study.rows, ["setting", "variant"])
    values = table.pivot(index="variant", columns="setting", values="mean")[settings]
    if len(values) > _MOST_ROWS:
        return []
    shown = values.clip(lower=FLOOR)
    widest = str((shown.max() - shown.min()).idxmax())
    order = values.assign(best=values.max(axis=1)).sort_values([widest, "best"], ascending=False).index
    names = _names(study.rows)
    low, high = value_limits(max(table.low.fillna(table["mean"]).min(), FLOOR), table.high.fillna(table["mean"]).max())
    members = {setting: table[table.setting == setting].set_index("variant").reindex(order) for setting in settings}
    figure = _draw_panels(members, [names[variant] for variant in order], (low, high))
    notes = [f"Normalized value: mean and interval over {seed_counts(study.rows)}. Ordered by {flat(widest)}."]
    if (table.low.fillna(table["mean"]) < low).any():
        notes.append(f"Arrows point to values below {low:.2f}.")
    notes += interval_notes(study, study.rows)
    return [finish("ranking", "Every method", _titles(values, names), _READING, figure, [], notes)]


def _draw_panels(members: Mapping[str, pd.DataFrame], names: list[str], limits: tuple[float, float]) -> Figure:
    """A panel for each setting, with the means of its variants in the order of the names."""
    width = WIDTH if len(members) < 3 else 10.0
    figure = new_figure(width, 1.35 + 0.2 * len(names))
    panels = figure.subplots(1, len(members), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (setting, table) in zip(panels, members.items(), strict=True):
        axes.set_xlim(*limits)
        axes.set_ylim(len(names) - 0.4, -0.6)
        _draw_panel(axes, table)
        title = broken(flat(setting), int(11 * (width - 2) / len(members)))
        axes.set_title("\n".join(title.splitlines()[:3]), fontsize=9, pad=26)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    return figure


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """The name of each variant: the name of its method alone where the method has no other variant."""
    pairs = rows[["method", "variant"]].drop_duplicates()
    alone = pairs.method.map(pairs.method.value_counts()) == 1
    names = pairs.variant.where(~alone, pairs.method)
    return {v: shortened(name_of(name), _NAME_CHARACTERS) for v, name in zip(pairs.variant, names, strict=True)}


def _draw_panel(axes: Axes, members: pd.DataFrame) -> None:
    """Draws the means and intervals of one setting, in the order of the rows; a missing variant has none."""
    left = axes.get_xlim()[0]
    for y in range(0, len(members), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="0.96", zorder=-2, linewidth=0)
    mark_reference_and_optimum(axes, along="x")
    for at, name in ((0, "reference\npolicy"), (1, "optimum")):
        label = axes.text(at, 1.005, name, ha="center", va="bottom", linespacing=1.0, fontsize=8, color="0.35")
        label.set_transform(axes.get_xaxis_transform())
    rows = zip(members.index, *(members[name] for name in ENDS), strict=True)
    for y, (variant, mean, low, high, n) in enumerate(rows):
        if not np.isfinite(mean):
            continue
        style = known_style(str(variant))
        if n > 1:
            axes.plot([max(low, left), max(high, left)], [y, y], color=style.color, lw=1.2, marker="|", ms=6)
        if mean >= left:
            axes.plot([mean], [y], marker=style.marker, color=style.color, ms=4, linestyle="none")
        if mean < left or low < left:
            axes.plot([left], [y], marker="<", color=style.color, ms=6, linestyle="none", clip_on=False)
        text = three_decimals(mean) if abs(mean) < 100 else f"{mean:.3g}"
        axes.text(1.015, y, text, transform=axes.get_yaxis_transform(), fontsize=8, va="center")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("Normalized value", fontsize=9)


def _titles(values: pd.DataFrame, names: dict[str, str]) -> list[str]:
    """The highest and the lowest mean of each setting."""
    titles = []
    firsts = [str(setting).partition("\n")[0] for setting in values]
    for (setting, column), first in zip(values.items(), firsts, strict=True):
        known = column.dropna()
        name = first if firsts.count(first) == 1 else flat(str(setting))
        best, worst = (str(end) for end in (known.idxmax(), known.idxmin()))
        ends = [f"{names[variant]} {three_decimals(known[variant])}" for variant in (best, worst)]
        titles.append(f"{name}: from {ends[0]} to {ends[1]}")
    return titles
