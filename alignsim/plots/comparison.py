"""The main figure: every variant's value in every setting, seed by seed, and its paired advantage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignsim.analysis import Interval, Study, mean_interval, paired
from alignsim.plots.style import (
    VALUE_LABEL,
    Look,
    explain,
    headline,
    looks,
    mark_reference_and_optimum,
    name_of,
    seed_counts,
    signed,
)

#: Settings side by side before the figure wraps to another row.
_IN_A_ROW = 6


def draw_comparison(study: Study) -> Figure:
    """Value by setting: a dot for each seed, the mean and its 95 % interval, the advantage written above."""
    styles = looks(study.rows)
    settings = list(dict.fromkeys(study.rows.sort_values([*study.shared, "env"]).setting))
    advantages = {pair: _advantage(study, *pair, settings) for pair in study.comparisons}
    columns, n_rows = min(len(settings), _IN_A_ROW), -(-len(settings) // _IN_A_ROW)
    size = (max(7.2, 1.2 + 1.8 * columns), 1.8 + 3.4 * n_rows)
    figure, grid = plt.subplots(n_rows, 1, figsize=size, sharey=True, squeeze=False)
    lowest = min(study.rows.normalized_value.min(), 0)
    for row, axes in enumerate(grid[:, 0]):
        shown = settings[row * _IN_A_ROW : (row + 1) * _IN_A_ROW]
        for position, setting in enumerate(shown):
            _draw_setting(axes, position, study.rows[study.rows.setting == setting], styles)
            written = "\n".join(signed(found[setting]) for found in advantages.values() if setting in found)
            if written and len(advantages) == 1:
                written = f"{name_of(study.comparisons[0][0])} - {name_of(study.comparisons[0][1])}\n{written}"
            axes.text(position, 1.06, written, ha="center", va="bottom", fontsize=9)
        mark_reference_and_optimum(axes)
        axes.set_xticks(range(len(shown)), shown)
        axes.set_xlim(-0.55, columns - 0.45)
        axes.set_ylim(lowest - 0.08, 1.1 + 0.08 * max(len(advantages), 2))
        axes.set_yticks([tick / 5 for tick in range(-50, 6) if tick / 5 >= lowest - 0.08])
        axes.set_ylabel(VALUE_LABEL)
    titles = [headline(*pair, found) for pair, found in advantages.items() if found][:3]
    notes = f"Dots: seeds. Large marks: mean and 95 % t interval over {seed_counts(study.rows)}."
    if advantages:
        pairs = f" ({'; '.join(f'{name_of(a)} - {name_of(b)}' for a, b in advantages)})" if len(advantages) > 1 else ""
        notes += f"\nNumbers above: difference on the same seeds, mean [95 % t interval]{pairs}."
    explain(figure, titles or ["Value by condition"], [look.handle(v) for v, look in styles.items()], notes)
    return figure


def _advantage(study: Study, variant: str, baseline: str, settings: list[str]) -> dict[str, Interval]:
    """Mean paired difference of the normalized value for each of these settings that both have."""
    differences = dict(list(paired(study, variant, baseline).groupby("setting").normalized_value))
    return {setting: mean_interval(differences[setting]) for setting in settings if setting in differences}


def _draw_setting(axes: Axes, position: int, rows: pd.DataFrame, styles: dict[str, Look]) -> None:
    """One lane for each variant: the seeds on its left, their mean and interval on its right."""
    lane = 0.8 / len(styles)
    for k, (variant, look) in enumerate(styles.items()):
        values = rows.loc[rows.variant == variant].drop_duplicates("seed").normalized_value.to_numpy()
        if not len(values):
            continue
        left = position + (k - len(styles) / 2) * lane
        dots = left + lane * np.linspace(0.08, 0.62, len(values))
        axes.scatter(dots, values, s=14, color=look.colour, alpha=0.5, linewidths=0, marker=look.marker)
        mean, low, high, n = mean_interval(values)
        errors = [[mean - low], [high - mean]] if n > 1 else None
        axes.errorbar(left + 0.8 * lane, mean, errors, fmt=look.marker, color=look.colour, ms=6, capsize=5, lw=1.8)
