"""Value against each swept number, and the paired advantage over the baseline below it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from alignsim.analysis.study import Study, name_of_key, name_settings_and_variants, paired_differences
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
    name_of,
    seed_counts,
    series_styles,
    signed,
    with_value,
)

_DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))

#: With more lines of one method in a context, or more contexts, everything varies at once: marks without lines.
_MOST_LINES = len(_DASHES)

#: Of more methods, settings that a search varied get no figure each.
_MOST_METHODS = 4

#: What else tells settings apart where their keys are alike.
_WORLD = "env._target_"


@dataclass(frozen=True)
class _Sweep:
    """A study along one number.

    Attributes:
        study: the study, only rows with a known value.
        key: the dotted key of the number.
        others: the other columns whose values tell lines apart, besides the variant.
        rows: the rows of the study with two more columns: `line`, the variant without the number, and `context`, the
            values of the other columns.
        pairs: paired differences with the columns `line`, `context` and `baseline`.
        dashes: how the lines of each context are dashed; empty where so much else varies that there are no lines.
    """

    study: Study
    key: str
    others: list[str]
    rows: pd.DataFrame
    pairs: pd.DataFrame
    dashes: dict[str, Dash]

    @property
    def scattered(self) -> bool:
        """Whether there are marks without lines."""
        return not self.dashes


def draw(study: Study) -> list[Drawing]:
    """Draws a figure for each number of which the study has three or more values."""
    study = with_value(study)
    crowd = study.searched if study.rows.method.nunique() > _MOST_METHODS else []  # a search has a figure of its own
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
    if key not in study.shared:  # only against a baseline that has no such number
        swept = set(rows.variant[rows[key].notna()])
        compared = [(v, b) for v, b in compared if v in swept and b not in swept]
    tables = [paired_differences(study, v, b).assign(line=line[v], baseline=b) for v, b in compared]
    contexts = list(dict.fromkeys(_contexts(rows.sort_values(others), others))) if others else [""]
    readable = max(lines, len(contexts)) <= _MOST_LINES and lines * len(contexts) <= 2 * _MOST_LINES
    dashes = dict(zip(contexts, _DASHES, strict=False)) if readable else {}
    pairs = pd.concat([table for table in tables if len(table)] or [rows[:0].assign(baseline="")])
    rows, pairs = (table.assign(context=_contexts(table, others)) for table in (rows, pairs))
    return _Sweep(study, key, others, rows, pairs, dashes)


def _contexts(rows: pd.DataFrame, others: list[str]) -> list[str]:
    """The values of the other keys in each row, such as `n_pairs 4000, beta 0.5`."""
    different = {key: {value: _key_and_value(key, value) for value in rows[key].dropna().unique()} for key in others}
    columns = [rows[key].map(names).fillna("") for key, names in different.items()]
    return [", ".join(filter(None, row)) for row in zip(*columns, strict=True)] if columns else [""] * len(rows)


def _draw_sweep(sweep: _Sweep, name: str) -> Drawing:
    key, name_column = sweep.key, "method" if sweep.scattered else "line"
    named = series_styles(sweep.rows.assign(variant=sweep.rows[name_column]))
    styles = named
    if sweep.scattered:  # a style for each method
        styles = {str(a): named[str(b)] for a, b in zip(sweep.rows.line, sweep.rows.method, strict=True)}
    ratios = [3, 2] if len(sweep.pairs) else [3]
    figure = new_figure(WIDTH, 0.7 + sum(ratios))
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    above, below = grid[0, 0], grid[-1, 0]
    handles: list[Artist] = [style.handle(variant) for variant, style in named.items()]
    x = sweep.rows[key].dropna()
    number_axis(below, list(x.unique()), WIDTH - 1.8)
    below.set_xlabel(axis_name(key))
    for line, style in styles.items():
        handles += _draw_lines(above, sweep, sweep.rows[sweep.rows.line == line], style)
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


def _draw_lines(axes: Axes, sweep: _Sweep, rows: pd.DataFrame, style: SeriesStyle) -> list[Line2D]:
    """Draws a line for each combination of the other keys that vary; returns legend entries for these.

    Where there are too many combinations it draws marks without lines; where the method does not have the number, a
    level line.
    """
    if sweep.scattered:
        table = means(rows, [sweep.key, "line", *sweep.others])
        _draw_marks(axes, table.dropna(subset=sweep.key), sweep.key, style)
        level = table[table[sweep.key].isna()]
        for _, points in level.groupby(level.index) if len(level) <= _MOST_LINES else []:
            _draw_level(axes, points, style, "-")
        return []
    table, handles = means(rows, ["context", sweep.key]), []
    for context, dash in sweep.dashes.items():
        points = table[table.context == context]
        if points.empty:
            continue
        known = points.dropna(subset=sweep.key)
        if known.empty:
            _draw_level(axes, points, style, dash)
        else:
            x = known[sweep.key]
            axes.plot(x, known["mean"], color=style.color, marker=style.marker, linestyle=dash, ms=5)
            axes.fill_between(x, known.low, known.high, color=style.color, alpha=0.2, linewidth=0)
        if context:
            handles.append(Line2D([], [], color="0.3", linestyle=dash, label=context))
    return handles


def _draw_level(axes: Axes, points: pd.DataFrame, style: SeriesStyle, dash: Dash) -> None:
    """Draws a method that does not have the number: it is the same along the whole axis."""
    axes.axhline(points["mean"].iloc[0], color=style.color, linestyle=dash)
    axes.axhspan(points.low.iloc[0], points.high.iloc[0], color=style.color, alpha=0.15, linewidth=0)


def _draw_marks(axes: Axes, table: pd.DataFrame, key: str, style: SeriesStyle) -> None:
    errors = error_bars(table)
    axes.errorbar(
        table[key], table["mean"], errors, fmt=style.marker, color=style.color, ms=5, elinewidth=1, alpha=0.7, mew=0
    )


def _key_and_value(key: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    return text.rpartition(".")[2] if key == _WORLD else f"{name_of_key(key)} {text}"


def _titles(sweep: _Sweep) -> list[str]:
    """The paired advantage at both ends of the sweep; where more varies than the number, at its extremes."""
    groups = [] if sweep.pairs.empty else list(sweep.pairs.groupby(["line", "baseline"]))
    if not groups or len(groups) > 2:
        return _highest(sweep)
    titles = []
    for (line, baseline), rows in groups:
        name = f"{name_of(str(line))} - {name_of(str(baseline))}"
        table = means(rows, [sweep.key, *sweep.others])
        one_curve = len(table) >= 2 and not sweep.others
        titles += _at_both_ends(sweep, name, table) if one_curve else [_at_extremes(sweep, name, table)]
    return titles


def _at_both_ends(sweep: _Sweep, name: str, table: pd.DataFrame) -> list[str]:
    ends = table.iloc[[0, -1]]
    pairs = zip(ends[sweep.key], intervals(ends), strict=True)
    return [f"{name} at {name_of_key(sweep.key)} {x:g}: {signed(interval)}" for x, interval in pairs]


def _at_extremes(sweep: _Sweep, name: str, table: pd.DataFrame) -> str:
    extremes = table.iloc[[int(table["mean"].argmin()), int(table["mean"].argmax())]].drop_duplicates()
    points = zip(("lowest", "highest"), intervals(extremes), _records(extremes), strict=False)
    parts = [(rank, f"at {_context(sweep, row)}: {signed(interval)}") for rank, interval, row in points]
    if len(parts) == 1:
        return f"{name} {parts[0][1]}"
    return f"{name} is {', '.join(f'{rank} {text}' for rank, text in parts)}"


def _highest(sweep: _Sweep) -> list[str]:
    """The highest mean value of each method, and where on the axis it is."""
    titles = []
    for method in series_styles(sweep.rows.assign(variant=sweep.rows.method)):
        rows = sweep.rows[sweep.rows.method == method]
        table = means(rows, ["line", sweep.key, *sweep.others])
        best = table.iloc[[int(table["mean"].argmax())]]
        interval = intervals(best)[0]
        context = _context(sweep, _records(best)[0])
        titles.append(f"Highest mean value of {name_of(method)}: {interval!s}" + (f" at {context}" if context else ""))
    return titles if len(titles) <= 4 else [f"Value by {name_of_key(sweep.key)}"]


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _context(sweep: _Sweep, row: dict[str, object]) -> str:
    keys = [key for key in (sweep.key, *sweep.others[:3]) if row[key] == row[key]]
    return ", ".join(_key_and_value(key, row[key]) for key in keys)


def _notes(sweep: _Sweep) -> list[str]:
    below = "; below: of the difference on the same seeds" if len(sweep.pairs) else ""
    drawn = "Bars" if sweep.scattered else "Bands"
    notes = [f"Marks: mean over {seed_counts(sweep.study.rows)}. {drawn}: its interval{below}."]
    if sweep.scattered:
        varied = [name_of_key(key) for key in sweep.study.varied if key != sweep.key]
        more = f" and {len(varied) - 8} more" if len(varied) > 8 else ""
        notes.append(f"Varying along the axis too: {', '.join(varied[:8])}{more}.")
    return [*notes, *interval_notes(sweep.study, sweep.study.rows)]


def _reading(sweep: _Sweep) -> str:
    name = name_of_key(sweep.key)
    text = f"The axis shows {name}; a mark is the mean value of one condition over its seeds. "
    if sweep.scattered:
        text += "Other settings differ from mark to mark too, so look for trends rather than at single marks. "
    if len(sweep.pairs):
        text += "In the lower panel, the method is ahead of the baseline on the same seeds where a mark is above 0."
    return text.strip()
