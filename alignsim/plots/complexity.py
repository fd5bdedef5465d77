"""Value against the complexity factor, and the paired advantage over the baseline below it."""

from __future__ import annotations

from itertools import cycle
from typing import Literal

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alignsim.plots.style import (
    VALUE_LABEL,
    Look,
    explain,
    looks,
    mark_reference_and_optimum,
    name_of,
    seed_counts,
    signed,
)
from alignsim.statistics import mean_interval
from alignsim.study import KNOB, Study, paired

_DASHES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")

#: From so many values on, a study sweeps the complexity factor.
ENOUGH_VALUES = 3


def sweeps_complexity(study: Study) -> bool:
    """Whether the study has three or more complexity factors."""
    return KNOB in study.rows and study.rows[KNOB].nunique() >= ENOUGH_VALUES


def draw_complexity(study: Study) -> Figure:
    """Lines of the mean over seeds, bands of its 95 % interval; one line for each variant and other setting."""
    styles = looks(study.rows)
    panels = 2 if study.comparisons else 1
    ratios = [3, 2][:panels]
    figure, grid = plt.subplots(
        panels, 1, figsize=(7.2, 1.6 + sum(ratios)), sharex=True, squeeze=False, height_ratios=ratios
    )
    above, lowest = grid[0, 0], grid[-1, 0]
    handles = [look.handle(variant) for variant, look in styles.items()]
    for variant, look in styles.items():
        handles += _draw_lines(above, study, study.rows[study.rows.variant == variant], look)
    mark_reference_and_optimum(above)
    above.set_ylabel(VALUE_LABEL)
    for variant, baseline in study.comparisons:
        _draw_lines(lowest, study, paired(study, variant, baseline), styles[variant])
    if study.comparisons:
        lowest.axhline(0, color="0.45", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        compared = " and ".join(dict.fromkeys(name_of(baseline) for _, baseline in study.comparisons))
        lowest.set_ylabel(f"Paired advantage\nover {compared}")
    lowest.set_xlabel("Complexity factor (mean number of tokens that decide one piece of content)")
    lowest.set_xticks(sorted(study.rows[KNOB].unique()))
    legend = {str(handle.get_label()): handle for handle in handles}
    below = "; of the paired difference below" if study.comparisons else ""
    notes = [f"Marks: mean over {seed_counts(study.rows)}. Bands: 95 % interval{below}."]
    notes += [study.left_out] if study.left_out else []
    explain(figure, _titles(study), list(legend.values()), notes)
    return figure


def _titles(study: Study) -> list[str]:
    """The paired advantage at both ends of the sweep, where nothing else varies that would need telling."""
    if not study.comparisons or len(study.comparisons) > 2 or [key for key in study.shared if key != KNOB]:
        return ["Value by complexity factor"]
    titles = []
    for variant, baseline in study.comparisons:
        rows = paired(study, variant, baseline).drop_duplicates([KNOB, "seed"])
        ends = dict.fromkeys([rows[KNOB].min(), rows[KNOB].max()] if len(rows) else [])
        intervals = {x: mean_interval(rows.normalized_value[rows[KNOB] == x]) for x in ends}
        name = f"{name_of(variant)} - {name_of(baseline)}"
        told = [f"{name} at complexity factor {x:g}: {signed(interval)}" for x, interval in intervals.items()]
        titles += told or [f"{name}: no seeds in common"]
    return titles


def _draw_lines(axes: Axes, study: Study, rows: pd.DataFrame, look: Look) -> list[Line2D]:
    """Draw a line for each combination of the other keys that vary; returns legend entries for these."""
    others = [key for key in study.shared if key != KNOB]
    groups = rows.groupby(others, sort=True) if others else [((), rows)]
    handles = []
    for (values, members), dashes in zip(groups, cycle(_DASHES), strict=False):
        if members.empty:
            continue
        unique = members.drop_duplicates([KNOB, "seed"])  # gap at complexity 1 is no_gap
        points = [(x, *mean_interval(group.normalized_value)) for x, group in unique.groupby(KNOB)]
        x, mean, low, high, _ = zip(*points, strict=True)
        axes.plot(x, mean, color=look.colour, marker=look.marker, linestyle=dashes, ms=5)
        axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
        if others:
            label = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in zip(others, values, strict=True))
            handles.append(Line2D([], [], color="0.3", linestyle=dashes, label=label))
    return handles
