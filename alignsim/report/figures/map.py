"""The paired advantage over two swept numbers: a cell for each setting, and a line around ties."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb

from alignsim.analysis.statistics import Interval
from alignsim.analysis.study import Study, name_of_key
from alignsim.report.figures.layout import WIDTH, finish, new_figure
from alignsim.report.figures.means import advantages, intervals
from alignsim.report.figures.scales import axis_name, swept_numbers
from alignsim.report.figures.style import (
    TIE,
    Drawing,
    file_names,
    headline,
    interval_notes,
    name_of,
    seed_counts,
    series_styles,
    signed,
    with_value,
)

_MOST_PANELS = 4
_Array = npt.NDArray[np.float64]


_READING = (
    "Each cell is one setting of {first} and {second}; its number is the mean advantage on the same seeds. "
    "The thick line separates cells within {tie:g} of a tie from the others, without interpolation."
)


def draw(study: Study) -> list[Drawing]:
    """Draws a map for each pair of numbers that span a grid of settings, where nothing else varies."""
    study = with_value(study)
    drawn = []
    for pair in combinations(swept_numbers(study.rows, study.shared, at_least=2), 2):
        sizes = [study.rows[key].nunique() for key in pair]
        cells = study.rows[[*pair]].dropna().drop_duplicates()
        full = len(cells) >= 2 / 3 * sizes[0] * sizes[1] and max(sizes) >= 3
        if full and set(study.shared) == set(pair) and study.comparisons:
            drawn += _draw_map(study, pair, *sorted(pair, key=lambda key: -study.rows[key].nunique()))
    return drawn


def _draw_map(study: Study, pair: tuple[str, str], x: str, y: str) -> list[Drawing]:
    tables = dict(list(advantages(study, [x, y]).items())[:_MOST_PANELS])
    if not tables:
        return []
    columns, rows = (np.sort(study.rows[key].unique()) for key in (x, y))
    most = max(2 * TIE, *(float(table["mean"].abs().max()) for table in tables.values()))
    width = max(WIDTH, 2.2 + 0.4 * len(columns))
    cell = (width - 2.2) / len(columns)
    height = float(np.clip(cell * 0.7, 0.4, 0.9)) * len(rows)
    figure = new_figure(width, 0.6 + (height + 0.4) * len(tables))
    grid = figure.subplots(len(tables), 1, squeeze=False, sharex=True)
    styles = series_styles(study.rows)
    for axes, ((variant, baseline), table) in zip(grid[:, 0], tables.items(), strict=True):
        colors = _diverging(styles[baseline].color, styles[variant].color)
        _draw_panel(axes, table, (x, y), (columns, rows), (most, cell), colors)
        bar = figure.colorbar(ScalarMappable(Normalize(-most, most), colors), ax=axes, pad=0.02)
        bar.set_label(f"{name_of(variant)} - {name_of(baseline)}", fontsize=9)
    grid[-1, 0].set_xlabel(axis_name(x))
    first, second = (name_of_key(key) for key in pair)
    name = f"{file_names('advantage_by_', pair)[pair[0]]}_and_{file_names('', pair)[pair[1]]}"
    heading = f"Advantage by {first} and {second}"
    reading = _READING.format(first=first, second=second, tie=TIE)
    return [finish(name, heading, _titles(tables, x, y), reading, figure, [], _notes(study))]


def _draw_panel(
    axes: Axes,
    table: pd.DataFrame,
    keys: tuple[str, str],
    values: tuple[_Array, _Array],
    sizes: tuple[float, float],
    colors: LinearSegmentedColormap,
) -> None:
    """One map.

    Args:
        axes: where it is drawn.
        table: the mean of each setting.
        keys: of the columns and of the rows.
        values: of these keys, increasing.
        sizes: the largest absolute mean, and the width of a cell in inches.
        colors: from the most negative to the most positive mean.
    """
    (x, y), (columns, rows), (most, cell) = keys, values, sizes
    means = _cells(table, table["mean"], x, y, columns, rows)
    edges = np.arange(len(columns) + 1), np.arange(len(rows) + 1)
    axes.pcolormesh(*edges, means, cmap=colors, norm=Normalize(-most, most), ec="white", lw=1)
    _annotate(axes, table, keys, columns, rows, most, cell)
    _draw_tie_line(axes, means)
    labels = [f"{value:g}" for value in columns]
    upright = cell <= 0.1 + 0.09 * max(map(len, labels))
    axes.set_xticks(np.arange(len(columns)) + 0.5, labels, rotation=90 if upright else 0)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{value:g}" for value in rows])
    axes.tick_params(length=0)
    axes.set_ylabel(name_of_key(y))


def _cells(table: pd.DataFrame, values: pd.Series, x: str, y: str, columns: _Array, rows: _Array) -> _Array:
    """The values of settings on the grid, (rows, columns), NaN for a setting that is missing."""
    filled = np.full((len(rows), len(columns)), np.nan)
    filled[np.searchsorted(rows, table[y]), np.searchsorted(columns, table[x])] = values
    return filled


def _annotate(
    axes: Axes, table: pd.DataFrame, keys: tuple[str, str], columns: _Array, rows: _Array, most: float, cell: float
) -> None:
    """Writes the mean into every cell, and its interval where there is room; hatches settings that are missing."""
    missing = np.ones((len(rows), len(columns)), dtype=bool)
    for at, interval in zip(table[list(keys)].itertuples(index=False), intervals(table), strict=True):
        column, row = np.searchsorted(columns, at[0]), np.searchsorted(rows, at[1])
        missing[row, column] = False
        color = "white" if abs(interval.mean) > 0.7 * most else "black"
        roomy = cell > 0.95 and interval.n > 1
        size = 10 if cell > 0.6 else 8
        digits = 3 if cell > 1.2 else 2
        mean, low, high = (round(end, digits) + 0.0 for end in (interval.mean, interval.low, interval.high))
        text = f"{mean:+.{digits}f}"
        text = text if cell > 0.5 else text.replace("0.", ".", 1)
        axes.text(
            column + 0.5, row + (0.58 if roomy else 0.5), text, ha="center", va="center", fontsize=size, color=color
        )
        if roomy:
            ends = f"[{low:.{digits}f}, {high:.{digits}f}]"
            axes.text(column + 0.5, row + 0.34, ends, ha="center", va="center", fontsize=7.5, color=color)
    for row, column in np.argwhere(missing):
        axes.fill_between(
            [column, column + 1], row, row + 1, facecolor="white", edgecolor="0.8", hatch="//", linewidth=0
        )


def _draw_tie_line(axes: Axes, means: _Array) -> None:
    """Draws a line along the edges between ties and other cells."""
    tie = np.abs(means) < TIE
    known = ~np.isnan(means)
    for row, column in np.argwhere((tie[:, 1:] != tie[:, :-1]) & known[:, 1:] & known[:, :-1]):
        axes.plot([column + 1, column + 1], [row, row + 1], color="black", lw=3, solid_capstyle="projecting")
    for row, column in np.argwhere((tie[1:] != tie[:-1]) & known[1:] & known[:-1]):
        axes.plot([column, column + 1], [row + 1, row + 1], color="black", lw=3, solid_capstyle="projecting")


def _titles(tables: dict[tuple[str, str], pd.DataFrame], x: str, y: str) -> list[str]:
    titles = []
    for pair, table in tables.items():
        names = (f"{name_of_key(x)} {a:g}, {name_of_key(y)} {b:g}" for a, b in zip(table[x], table[y], strict=True))
        by: dict[str, Interval] = dict(zip(names, intervals(table), strict=True))
        best, most = max(by.items(), key=lambda item: item[1].mean)
        difference = " - ".join(map(name_of, pair))
        titles.append(f"{headline(*pair, by)}; {difference} is highest at {best}: {signed(most)}")
    return titles


def _notes(study: Study) -> list[str]:
    return [
        f"Numbers: mean paired difference over {seed_counts(study.rows)}, its interval below where there is room. "
        f"Thick line: between cells whose mean is within {TIE:g} of 0 and the others. Hatched: no such setting.",
        *interval_notes(study, study.rows),
    ]


def _diverging(low: str, high: str) -> LinearSegmentedColormap:
    """A color map from one color through near white to another, in equal steps of CIELAB, equally dark at both ends."""
    white = np.array([96.0, 0.0, 0.0])
    ends = [np.array([45.0, *_to_lab(np.array(to_rgb(color)))[1:]]) for color in (low, high)]
    t = np.linspace(0, 1, 65)[:, None]
    lab = np.concatenate([ends[0] + t * (white - ends[0]), (white + t * (ends[1] - white))[1:]])
    return LinearSegmentedColormap.from_list("advantage", [tuple(c) for c in _to_rgb(lab)])


_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _XYZ.sum(1)
_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])


def _to_lab(rgb: _Array) -> _Array:
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ _XYZ.T / _WHITE
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab: _Array = root @ _LAB.T - [16, 0, 0]
    return lab


def _to_rgb(lab: _Array) -> _Array:
    root = (lab + np.array([16, 0, 0])) @ np.linalg.inv(_LAB).T
    xyz = np.where(root > 0.2069, root**3, (root - 16 / 116) / 7.787) * _WHITE
    linear = np.clip(xyz @ np.linalg.inv(_XYZ).T, 0, 1)
    rgb: _Array = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return rgb
