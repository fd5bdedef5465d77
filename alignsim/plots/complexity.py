"""Value against the complexity factor, and the paired advantage over the baseline below it."""

from __future__ import annotations

from itertools import cycle
from typing import Literal

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alignsim.analysis import KNOB, Study, mean_interval, paired
from alignsim.plots.style import VALUE_LABEL, Look, explain, looks, mark_reference_and_optimum, name_of, seed_counts

_DASHES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")

#: From so many values on, a study sweeps the complexity factor.
ENOUGH_VALUES = 3


def sweeps_complexity(study: Study) -> bool:
    """Whether the study has three or more complexity factors."""
    return KNOB in study.rows and study.rows[KNOB].nunique() >= ENOUGH_VALUES


def draw_complexity(study: Study) -> Figure:
    """Lines of the mean over seeds, bands of its 95 % t interval; one line for each variant and other setting."""
    styles = looks(study.rows)
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.2, 6.6), sharex=True, height_ratios=[3, 2])
    handles = [look.handle(variant) for variant, look in styles.items()]
    for variant, look in styles.items():
        handles += _draw_lines(above, study, study.rows[study.rows.variant == variant], look)
    for variant, baseline in study.comparisons:
        _draw_lines(below, study, paired(study, variant, baseline), styles[variant])
    mark_reference_and_optimum(above)
    above.set_ylabel(VALUE_LABEL)
    below.axhline(0, color="0.45", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    compared = " and ".join(dict.fromkeys(name_of(baseline) for _, baseline in study.comparisons))
    below.set_ylabel(f"Paired advantage\nover {compared}" if compared else "")
    below.set_xlabel("Complexity factor (mean number of tokens that decide one piece of content)")
    below.set_xticks(sorted(study.rows[KNOB].unique()))
    legend = {str(handle.get_label()): handle for handle in handles}
    title = "Value, and advantage over the baseline, by complexity factor"
    notes = f"Marks: mean over {seed_counts(study.rows)}. Bands: 95 % t interval; of the paired difference below."
    explain(figure, [title], list(legend.values()), notes)
    return figure


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
