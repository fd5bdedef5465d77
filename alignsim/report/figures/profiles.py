"""Performance profiles: the share of runs of each variant above every level of value (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from alignsim.analysis.statistics import performance_profile
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY
from alignsim.report.figures.layout import WIDTH, finish, new_figure
from alignsim.report.figures.scales import level_line, value_limits
from alignsim.report.figures.style import (
    Dash,
    Drawing,
    SeriesStyle,
    interval_notes,
    name_of,
    series_styles,
    with_value,
)
from alignsim.runs.text import counted, three_decimals

#: The fewest seeds that make a profile, and the most variants that make a readable figure.
_LEAST_SEEDS, _MOST_VARIANTS = 4, 6

_DASHES: tuple[Dash, ...] = ("-", (0, (6, 2)), ":", "-.", (0, (1, 1)), (0, (8, 2, 2, 2)))


_READING = (
    "The height of a curve is the share of runs with a larger value than the one on the axis, so higher is better. "
    "A curve that lies entirely above another is better at every level."
)


def draw(study: Study) -> list[Drawing]:
    """Draws one curve for each variant, over the settings and seeds that all of them have."""
    study = with_value(study)
    styles = series_styles(study.rows)
    table = _common(study.rows)
    if not 2 <= len(styles) <= _MOST_VARIANTS or table.empty or table.shape[1] < _LEAST_SEEDS:
        return []
    scores = {variant: table.loc[variant].to_numpy() for variant in styles}
    figure = _draw_profiles(scores, styles)
    tasks, seeds = table.shape[0] // len(styles), table.shape[1]
    notes = [
        f"Lines: share of {counted(tasks, 'setting')} x {seeds} seeds that all variants have. "
        "Bands: interval at each level by itself.",
        *interval_notes(study, study.rows),
    ]
    handles = [style.handle(variant) for variant, style in styles.items()]
    return [finish("performance_profiles", "Performance profiles", _titles(scores), _READING, figure, handles, notes)]


def _draw_profiles(scores: Mapping[str, npt.NDArray[np.float64]], styles: Mapping[str, SeriesStyle]) -> Figure:
    """The profile of the scores (settings, seeds) of each variant, with a band."""
    numbers = np.concatenate([values.ravel() for values in scores.values()])
    low, high = value_limits(float(numbers.min()), float(numbers.max()))
    levels = np.linspace(low, high, 121)
    figure = new_figure(WIDTH, 4.0)
    axes = figure.subplots()
    for (variant, style), dash in zip(styles.items(), _DASHES, strict=False):
        profile = np.array([interval[:3] for interval in performance_profile(scores[variant], levels)])
        axes.plot(
            levels, profile[:, 0], color=style.color, linestyle=dash, lw=1.8, marker=style.marker, markevery=12, ms=5
        )
        axes.fill_between(levels, profile[:, 1], profile[:, 2], color=style.color, alpha=0.2, linewidth=0)
    axes.set_xlim(low, high)
    axes.set_ylim(-0.02, 1.02)
    for at in (0, 1):
        level_line(axes, at, along="x")
    axes.set_xlabel("Normalized value \u03c4 (0 = reference policy, 1 = optimum)")
    axes.set_ylabel("Share of runs with a value above \u03c4")
    return figure


def _common(rows: pd.DataFrame) -> pd.DataFrame:
    """Values by variant and setting (rows) and seed (columns), for the settings and seeds that all variants have."""
    table = rows.drop_duplicates(["variant", "setting", "seed"]).set_index(["variant", "setting", "seed"])[PRIMARY]
    by_variant = table.unstack("variant").dropna()
    if by_variant.empty:
        return pd.DataFrame()
    wide = pd.DataFrame(by_variant.stack().unstack("seed"))
    enough = (wide.notna().to_numpy().sum(1) >= _LEAST_SEEDS).tolist()
    complete = wide[enough].dropna(axis="columns")
    return pd.DataFrame(complete.swaplevel().sort_index())


def _titles(scores: dict[str, np.ndarray]) -> list[str]:
    """The value that half of the runs of each variant exceed."""
    middle = {variant: float(np.median(values)) for variant, values in scores.items()}
    if len(middle) > 3:  # the extremes
        middle = dict(sorted(middle.items(), key=lambda item: item[1])[:: len(middle) - 1])
    parts = [f"{three_decimals(value)} with {name_of(variant)}" for variant, value in middle.items()]
    return [f"Half of the runs have a value above {', '.join(parts[:-1])} and {parts[-1]}"]
