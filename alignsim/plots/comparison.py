"""The main figure: every variant's value in every setting, seed by seed, and its paired advantage."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
from alignsim.statistics import Interval, mean_interval
from alignsim.study import Study, paired

#: Lanes of variants, over all settings, side by side before the figure wraps to another row.
_LANES_IN_A_ROW = 12


def draw_comparison(study: Study) -> Figure:
    """Value by setting: a dot for each seed, the mean and its 95 % interval, the advantage written above."""
    styles = looks(study.rows)
    settings = list(dict.fromkeys(study.rows.sort_values([*study.shared, "env"]).setting))
    advantages = {pair: _advantage(study, *pair, settings) for pair in study.comparisons}
    lanes = max(len(styles), 2)
    in_a_row = max(_LANES_IN_A_ROW // lanes, 1)
    columns, n_rows = min(len(settings), in_a_row), -(-len(settings) // in_a_row)
    written = {setting: _differences(setting, advantages, characters=12 * lanes) for setting in settings}
    lines = max(text.count("\n") + 1 for text in written.values())
    size = (max(7.2, 1.2 + 0.9 * columns * lanes), 1.8 + (3.2 + 0.16 * lines) * n_rows)
    figure, grid = plt.subplots(n_rows, 1, figsize=size, sharey=True, squeeze=False)
    lowest = min(study.rows.normalized_value.min(), 0)
    height = (1.15 - lowest) / 3  # of an inch, in units of value
    for row, axes in enumerate(grid[:, 0]):
        shown = settings[row * in_a_row : (row + 1) * in_a_row]
        for position, setting in enumerate(shown):
            _draw_setting(axes, position, study.rows[study.rows.setting == setting], styles)
            axes.text(position, 1.06, written[setting], ha="center", va="bottom", fontsize=8)
        mark_reference_and_optimum(axes)
        axes.set_xticks(range(len(shown)), shown)
        axes.set_xlim(-0.55, columns - 0.45)
        axes.set_ylim(lowest - 0.08, 1.1 + 0.16 * height * lines)
        axes.set_yticks([tick / 5 for tick in range(-50, 6) if tick / 5 >= lowest - 0.08])
        axes.set_ylabel(VALUE_LABEL)
    titles = [line for pair, found in advantages.items() if found for line in headline(*pair, found).splitlines()]
    if len(titles) > 4:
        titles = ["Value by condition"]
    notes = [f"Dots: seeds. Large marks: mean and 95 % interval over {seed_counts(study.rows)}."]
    if advantages:
        notes.append("Numbers above: difference on the same seeds, mean [95 % interval].")
    error = study.rows.value_standard_error.div(study.rows.optimal_value.abs()).max()
    if error > 0:
        notes.append(f"Values are sampled, not enumerated: standard error of each dot at most {error:.2g}.")
    notes += [study.left_out] if study.left_out else []
    explain(figure, titles or ["Value by condition"], [look.handle(v) for v, look in styles.items()], notes)
    return figure


def _differences(setting: str, advantages: dict[tuple[str, str], dict[str, Interval]], characters: int) -> str:
    """What stands above a setting: for each comparison its name, as many characters wide, and the difference."""
    lines = []
    for (variant, baseline), found in advantages.items():
        if setting in found:
            lines += textwrap.wrap(f"{name_of(variant)} - {name_of(baseline)}", characters)
            lines.append(signed(found[setting]))
    return "\n".join(lines)


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
