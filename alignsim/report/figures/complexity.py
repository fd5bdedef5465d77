"""Value against each swept number, and the paired advantage over the baseline below it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from alignsim.analysis.study import Study, name_of_key, name_settings_and_variants, paired
from alignsim.report.figures.layout import WIDTH, finish, new_figure
from alignsim.report.figures.means import MOST_COMPARISONS, error_bars, intervals, means
from alignsim.report.figures.scales import (
    axis_name,
    level_line,
    mark_reference_and_optimum,
    number_axis,
    swept_numbers,
    value_limits,
)
from alignsim.report.figures.style import (
    VALUE_LABEL,
    Dash,
    Drawing,
    SeriesStyle,
    file_names,
    interval_notes,
    looks,
    name_of,
    seed_counts,
    signed,
    with_value,
)

_DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))

#: More lines of one method in one place than these, or more places, are marks without lines: everything varies at once.
_MOST_LINES = len(_DASHES)

#: The settings of more methods than these are not seen one by one.
_MOST_METHODS = 4

#: What else tells settings apart where their keys are alike.
_WORLD = "env._target_"


@dataclass(frozen=True)
class _Sweep:
    """A study seen along one number.

    Attributes:
        study: with known values only.
        key: the number.
        others: the columns whose values tell its lines apart, beside the variant.
        rows: the study's, with the columns `line`, the variant but for the number, and `place`, what the others are.
        pairs: paired differences with the columns `line`, `place` and `baseline`.
        dashes: of the lines of each place; empty where so much else varies that there are no lines.
    """

    study: Study
    key: str
    others: list[str]
    rows: pd.DataFrame
    pairs: pd.DataFrame
    dashes: dict[str, Dash]

    @property
    def scattered(self) -> bool:
        """Whether there are marks only."""
        return not self.dashes


def draw(study: Study) -> list[Drawing]:
    """A figure for each number of which the study has three or more values."""
    study = with_value(study)
    crowd = study.searched if study.rows.method.nunique() > _MOST_METHODS else []  # it has a figure of its own
    names = file_names("value_by_", swept_numbers(study.rows, [key for key in study.varied if key not in crowd]))
    return [_draw_sweep(_along(study, key), name) for key, name in names.items()]


def _along(study: Study, key: str) -> _Sweep:
    others = [k for k in study.shared if k != key]
    others += [_WORLD] if _WORLD in study.rows and study.rows[_WORLD].nunique() > 1 else []
    reduced = study.rows if key in study.shared else name_settings_and_variants(study.rows.drop(columns=key))
    rows = study.rows.assign(line=reduced.variant)
    line = dict(zip(rows.variant, rows.line, strict=True))
    lines = rows[["method", "line"]].drop_duplicates().groupby("method").size().max()
    compared = study.comparisons if len(study.comparisons) <= MOST_COMPARISONS else []
    if key not in study.shared:  # against a baseline that has no such number
        swept = set(rows.variant[rows[key].notna()])
        compared = [(v, b) for v, b in compared if v in swept and b not in swept]
    tables = [paired(study, v, b).assign(line=line[v], baseline=b) for v, b in compared]
    places = list(dict.fromkeys(_places(rows.sort_values(others), others))) if others else [""]
    readable = max(lines, len(places)) <= _MOST_LINES and lines * len(places) <= 2 * _MOST_LINES
    dashes = dict(zip(places, _DASHES, strict=False)) if readable else {}
    pairs = pd.concat([table for table in tables if len(table)] or [rows[:0].assign(baseline="")])
    rows, pairs = (table.assign(place=_places(table, others)) for table in (rows, pairs))
    return _Sweep(study, key, others, rows, pairs, dashes)


def _places(rows: pd.DataFrame, others: list[str]) -> list[str]:
    """For each row what the other keys are, such as `n_pairs 4000, beta 0.5`."""
    different = {key: {value: _told(key, value) for value in rows[key].dropna().unique()} for key in others}
    columns = [rows[key].map(told).fillna("") for key, told in different.items()]
    return [", ".join(filter(None, row)) for row in zip(*columns, strict=True)] if columns else [""] * len(rows)


def _draw_sweep(sweep: _Sweep, name: str) -> Drawing:
    key, named = sweep.key, looks(sweep.rows.assign(variant=sweep.rows["method" if sweep.scattered else "line"]))
    styles = named
    if sweep.scattered:  # a look for each method
        styles = {str(a): named[str(b)] for a, b in zip(sweep.rows.line, sweep.rows.method, strict=True)}
    ratios = [3, 2] if len(sweep.pairs) else [3]
    figure = new_figure(WIDTH, 0.7 + sum(ratios))
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    above, below = grid[0, 0], grid[-1, 0]
    handles: list[Artist] = [look.handle(variant) for variant, look in named.items()]
    x = sweep.rows[key].dropna()
    number_axis(below, list(x.unique()), WIDTH - 1.8)
    below.set_xlabel(axis_name(key))
    for line, look in styles.items():
        handles += _draw_lines(above, sweep, sweep.rows[sweep.rows.line == line], look)
    above.set_ylim(*value_limits(*above.dataLim.intervaly))
    mark_reference_and_optimum(above)
    above.set_ylabel(VALUE_LABEL)
    if len(sweep.pairs):
        for (name_of_line, _), rows in sweep.pairs.groupby(["line", "baseline"]):
            _draw_lines(below, sweep, rows, styles[str(name_of_line)])
        level_line(below, 0)
        compared = " and ".join(name_of(b) for b in sweep.pairs.baseline.unique()[:2])
        below.set_ylabel(f"Paired advantage\nover {compared}")
    legend = {str(handle.get_label()): handle for handle in handles}
    heading = f"Value by {name_of_key(key)}"
    return finish(name, heading, _titles(sweep), _reading(sweep), figure, list(legend.values()), _notes(sweep))


def _draw_lines(axes: Axes, sweep: _Sweep, rows: pd.DataFrame, look: SeriesStyle) -> list[Line2D]:
    """Draw a line for each combination of the other keys that vary; returns legend entries for these.

    Marks without lines where there are too many combinations; a level line where the number is none of the method's.
    """
    if sweep.scattered:
        table = means(rows, [sweep.key, "line", *sweep.others])
        _draw_marks(axes, table.dropna(subset=sweep.key), sweep.key, look)
        level = table[table[sweep.key].isna()]
        for _, points in level.groupby(level.index) if len(level) <= _MOST_LINES else []:
            _draw_level(axes, points, look, "-")
        return []
    table, handles = means(rows, ["place", sweep.key]), []
    for place, dash in sweep.dashes.items():
        points = table[table.place == place]
        if points.empty:
            continue
        known = points.dropna(subset=sweep.key)
        if known.empty:
            _draw_level(axes, points, look, dash)
        else:
            x = known[sweep.key]
            axes.plot(x, known["mean"], color=look.color, marker=look.marker, linestyle=dash, ms=5)
            axes.fill_between(x, known.low, known.high, color=look.color, alpha=0.2, linewidth=0)
        if place:
            handles.append(Line2D([], [], color="0.3", linestyle=dash, label=place))
    return handles


def _draw_level(axes: Axes, points: pd.DataFrame, look: SeriesStyle, dash: Dash) -> None:
    """A method that has no such number is the same along the whole axis."""
    axes.axhline(points["mean"].iloc[0], color=look.color, linestyle=dash)
    axes.axhspan(points.low.iloc[0], points.high.iloc[0], color=look.color, alpha=0.15, linewidth=0)


def _draw_marks(axes: Axes, table: pd.DataFrame, key: str, look: SeriesStyle) -> None:
    errors = error_bars(table)
    axes.errorbar(
        table[key], table["mean"], errors, fmt=look.marker, color=look.color, ms=5, elinewidth=1, alpha=0.7, mew=0
    )


def _told(key: str, value: object) -> str:
    told = f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    return told.rpartition(".")[2] if key == _WORLD else f"{name_of_key(key)} {told}"


def _titles(sweep: _Sweep) -> list[str]:
    """The paired advantage at both ends of the sweep; where more varies than that, its extremes."""
    key = sweep.key
    groups = [] if sweep.pairs.empty else list(sweep.pairs.groupby(["line", "baseline"]))
    if not groups or len(groups) > 2:
        return _highest(sweep)
    titles = []
    for (line, baseline), rows in groups:
        name = f"{name_of(str(line))} - {name_of(str(baseline))}"
        table = means(rows, [key, *sweep.others])
        if len(table) < 2 or sweep.others:
            extremes = table.iloc[[int(table["mean"].argmin()), int(table["mean"].argmax())]].drop_duplicates()
            told = [
                f"{rank} at {_place(sweep, row)}: {signed(interval)}"
                for rank, interval, row in zip(
                    ("lowest", "highest"), intervals(extremes), _records(extremes), strict=False
                )
            ]
            titles.append(f"{name} is {', '.join(told)}" if len(told) > 1 else f"{name} {told[0].partition(' ')[2]}")
        else:
            ends = table.iloc[[0, -1]]
            titles += [
                f"{name} at {name_of_key(key)} {x:g}: {signed(i)}"
                for x, i in zip(ends[key], intervals(ends), strict=True)
            ]
    return titles


def _highest(sweep: _Sweep) -> list[str]:
    """Where each method's mean value is highest."""
    titles = []
    for method in looks(sweep.rows.assign(variant=sweep.rows.method)):
        rows = sweep.rows[sweep.rows.method == method]
        table = means(rows, ["line", sweep.key, *sweep.others])
        best = table.iloc[[int(table["mean"].argmax())]]
        interval = intervals(best)[0]
        place = _place(sweep, _records(best)[0])
        titles.append(f"Highest mean value of {name_of(method)}: {interval!s}" + (f" at {place}" if place else ""))
    return titles if len(titles) <= 4 else [f"Value by {name_of_key(sweep.key)}"]


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _place(sweep: _Sweep, row: dict[str, object]) -> str:
    keys = [key for key in (sweep.key, *sweep.others[:3]) if row[key] == row[key]]
    return ", ".join(_told(key, row[key]) for key in keys)


def _notes(sweep: _Sweep) -> list[str]:
    below = "; below: of the difference on the same seeds" if len(sweep.pairs) else ""
    drawn = "Bars" if sweep.scattered else "Bands"
    notes = [f"Marks: mean over {seed_counts(sweep.study.rows)}. {drawn}: its interval{below}."]
    if sweep.scattered:
        varied = [name_of_key(key) for key in sweep.study.varied if key != sweep.key]
        more = f" and {len(varied) - 8} more" if len(varied) > 8 else ""
        notes.append(f"Not at one value along the axis: {', '.join(varied[:8])}{more}.")
    return [*notes, *interval_notes(sweep.study, sweep.study.rows)]


def _reading(sweep: _Sweep) -> str:
    name = name_of_key(sweep.key)
    told = f"From left to right {name} grows; a mark is the mean value of one condition over its seeds. "
    if sweep.scattered:
        told += "Other settings differ from mark to mark too, so look for trends rather than single marks. "
    if len(sweep.pairs):
        told += "Below, marks above the zero line are where the method is ahead of the baseline on the same seeds."
    return told.strip()
