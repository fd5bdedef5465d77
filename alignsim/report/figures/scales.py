"""Axes: scale and ticks that suit the values of a swept number; the lines of the reference policy and the optimum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from alignsim.analysis.study import COMPLEXITY_KEY, name_of_key

#: A swept number has at least so many values; a sweep over decades has at least this ratio of largest to smallest.
ENOUGH_VALUES, WIDE = 3, 20.0

_WORDS = {
    COMPLEXITY_KEY: "Complexity factor (mean number of tokens that decide one piece of content)",
    "beta": "beta (weight of the KL term)",
    "env.n_pairs": "n_pairs (preference pairs, training and validation)",
    "env.coverage": "coverage (share of contents that the preference data may show)",
    "env.reference.tilt": "reference.tilt (of the reference policy, toward good content above 0)",
    "env.labels.flip_probability": "labels.flip_probability (share of labels that are flipped)",
}


def swept_numbers(rows: pd.DataFrame, keys: Sequence[str], at_least: int = ENOUGH_VALUES) -> list[str]:
    """Returns those of the keys that are numbers with at least so many values."""
    numbers = [key for key in keys if key in rows and pd.api.types.is_numeric_dtype(rows[key])]
    return [k for k in numbers if not pd.api.types.is_bool_dtype(rows[k]) and rows[k].nunique() >= at_least]


def axis_name(key: str) -> str:
    """Returns the label of an axis along which a dotted key varies."""
    return _WORDS.get(key, name_of_key(key))


def is_logarithmic(values: Sequence[float]) -> bool:
    """Returns whether a logarithmic axis suits these values: positive, and over decades or in equal ratios."""
    ordered = np.sort(np.asarray(values, dtype=float))
    if len(ordered) < ENOUGH_VALUES or ordered[0] <= 0:
        return False
    ratios = ordered[1:] / ordered[:-1]
    return bool(ordered[-1] / ordered[0] >= WIDE or np.ptp(ratios) < 0.02 * ratios[0])


def number_axis(axes: Axes, values: Sequence[float], inches: float) -> None:
    """Sets the scale and the limits of an x axis for these values, with ticks at them where they fit.

    Args:
        axes: the axes whose x axis it is.
        values: the values of the number, at least one.
        inches: the approximate length of the axis.
    """
    x = np.unique(np.asarray(values, dtype=float))
    logarithmic = is_logarithmic(list(x))
    at = np.log(x) if logarithmic else x
    extent = float(np.ptp(at)) or 1.0
    margin = 0.05 * extent
    limits = np.array([at[0] - margin, at[-1] + margin])
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlim(*(np.exp(limits) if logarithmic else limits))
    widths = np.array([0.09 * len(f"{value:g}") + 0.08 for value in x])
    fits = np.diff(at) / extent * 0.9 * inches > (widths[1:] + widths[:-1]) / 2
    if fits.all():
        axes.xaxis.set_major_locator(FixedLocator(list(x)))
    elif logarithmic:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if x[-1] / x[0] < 100 else (1,)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(max(int(inches / 0.9), 2)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def value_limits(low: float, high: float = 1.0) -> tuple[float, float]:
    """Returns limits of an axis of values that include 0 and 1."""
    low, high = min(low, 0.0), max(high, 1.0)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def level_line(axes: Axes, at: float, along: str = "y") -> None:
    """Draws a thin dashed line at a value of an axis, behind everything else."""
    draw = axes.axvline if along == "x" else axes.axhline
    draw(at, color="0.45", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)


def mark_reference_and_optimum(axes: Axes, along: str = "y") -> None:
    """Draws lines at 0 and 1, with names on a vertical axis, so that the scale explains itself.

    Args:
        axes: axes with their final limits.
        along: the axis of the values.
    """
    low, high = axes.get_ylim() if along == "y" else axes.get_xlim()
    near = high - low > 8  # too close to each other for two centered names
    for at, name, side in ((0, "reference\npolicy", "top"), (1, "optimum", "bottom")):
        level_line(axes, at, along)
        if along == "x":  # the label of the axis says what they are
            continue
        alignment = side if near else "center"
        axes.text(1.01, at, name, transform=axes.get_yaxis_transform(), color="0.35", fontsize=8, va=alignment)
