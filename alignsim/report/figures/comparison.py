"""The main figure: every variant's value in every setting, seed by seed, and its paired advantage."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignsim.analysis.statistics import Interval, three
from alignsim.analysis.study import MANY_METHODS, Study, flat
from alignsim.report.figures.layout import finish, new_figure
from alignsim.report.figures.long import LEGEND_ROOM, ForestRow, forest_plot
from alignsim.report.figures.means import ENDS, MOST_COMPARISONS, advantages, intervals, means
from alignsim.report.figures.scales import mark_reference_and_optimum, value_limits
from alignsim.report.figures.style import (
    VALUE_LABEL,
    Drawing,
    SeriesStyle,
    broken,
    headline,
    interval_notes,
    looks,
    name_of,
    seed_counts,
    settings_of,
    signed,
    with_value,
)

#: Lanes of variants, over all settings, side by side before the columns wrap to another row.
_LANES_IN_A_ROW = 8

#: Up to so many settings and variants stand in columns, the rest in rows; more conditions than these are not drawn.
_MOST_COLUMNS, _MOST_VARIANTS, MOST_CONDITIONS = 8, 4, 400

_Found = dict[tuple[str, str], dict[str, Interval]]


def draw(study: Study) -> list[Drawing]:
    """Value by setting: a mark for each seed, the mean and its interval, the advantage written beside it.

    Nothing of a search, whose trials have a figure of their own.
    """
    study = with_value(study)
    settings = settings_of(study)
    n_variants = study.rows.variant.nunique()
    conditions = len(study.rows[["setting", "variant"]].drop_duplicates())
    if not settings or len(settings) > MOST_CONDITIONS // 2 or conditions > MOST_CONDITIONS or study.searched:
        return []
    found: _Found = {
        pair: {setting: by[setting] for setting in settings if setting in by}
        for pair, table in advantages(study, ["setting"]).items()
        for by in [dict(zip(table.setting, intervals(table), strict=True))]
    }
    in_columns = len(settings) <= _MOST_COLUMNS and n_variants <= _MOST_VARIANTS
    figure = _columns(study, settings, found) if in_columns else _rows(study, settings, found)
    titles = [line for pair, by in found.items() for line in headline(*pair, by).splitlines()]
    if not titles or len(titles) > 4:
        titles = [_overall(study, settings)]
    reading = (
        "Each pale mark is one seed, each large mark the mean over seeds with its 95 % interval. "
        "At 1 a policy is optimal, at 0 it is no better than the reference policy. "
    )
    if found:
        reading += "A method is ahead where the interval of the written difference does not hold 0."
    by_method = study.rows.assign(variant=study.rows.method) if n_variants > _MOST_VARIANTS else study.rows
    many = n_variants > _MOST_VARIANTS and study.rows.method.nunique() >= MANY_METHODS  # each row has its own name
    handles = [] if many else [look.handle(v) for v, look in looks(by_method).items()]
    notes, room = _notes(study, found, in_columns), None if in_columns else LEGEND_ROOM
    return [
        finish("rlhf_vs_dpo_comparison", "Value by condition", titles, reading.strip(), figure, handles, notes, room)
    ]


def _overall(study: Study, settings: list[str]) -> str:
    """The highest and lowest mean, where there is no comparison that a title could name."""
    table = means(study.rows, ["variant", "setting"])
    ends = [table.iloc[table["mean"].argmax()], table.iloc[table["mean"].argmin()]]
    if len(table) == 1:
        return f"Mean normalized value of {name_of(ends[0].variant)}: {three(ends[0]['mean'])}"
    told = [
        f"{three(row['mean'])} ({name_of(row.variant)}"
        + (f" in {', '.join(row.setting.splitlines())})" if len(settings) > 1 else ")")
        for row in ends
    ]
    return f"Mean values lie between {told[1]} and {told[0]}"


def _notes(study: Study, found: _Found, in_columns: bool) -> list[str]:
    small, large = ("Dots", "Large marks") if in_columns else ("Pale marks", "Full marks")
    notes = [f"{small}: seeds. {large}: mean and interval over {seed_counts(study.rows)}."]
    if found:
        apart = study.rows.variant.nunique() > _MOST_VARIANTS
        pairs = dict.fromkeys(f"{'its row' if apart else name_of(v)} - {name_of(b)}" for v, b in found)
        named = f"at the right: {', then '.join(list(pairs)[:4])}," if not in_columns else "above:"
        notes.append(f"Numbers {named} difference on the same seeds, mean [interval].")
    if len(study.comparisons) > MOST_COMPARISONS:
        notes.append(f"{len(study.comparisons)} pairs of variants are too many to write their differences.")
    error = study.rows.value_standard_error.div(study.rows.optimal_value - study.rows.reference_value).max()
    if error > 0:
        notes.append(f"Values are sampled, not enumerated: standard error of each at most {error:.2g}.")
    return [*notes, *interval_notes(study, study.rows)]


def _columns(study: Study, settings: list[str], found: _Found) -> Figure:
    """Settings side by side, in as many rows as they need."""
    styles = looks(study.rows)
    lanes = max(len(styles), 2)
    n_rows = -(-len(settings) // max(_LANES_IN_A_ROW // lanes, 1))
    columns = -(-len(settings) // n_rows)  # as even as possible
    width = max(7.2, 1.2 + 0.9 * columns * lanes)
    characters = int(11 * (width - 1.6) / columns)
    written = {setting: _differences(setting, found, characters) for setting in settings}
    names = {setting: broken(setting, int(12.5 * (width - 1.6) / columns)) for setting in settings}
    lines, name_lines = (max(text.count("\n") + 1 for text in texts.values()) for texts in (written, names))
    figure = new_figure(width, 0.3 + (3.1 + 0.16 * (lines + name_lines)) * n_rows)
    grid = figure.subplots(n_rows, 1, sharey=True, squeeze=False)
    table = means(study.rows, ["setting", "variant"])
    low, high = value_limits(study.rows.normalized_value.min(), study.rows.normalized_value.max())
    inch = (high - low) / 3  # in units of value
    for row, axes in enumerate(grid[:, 0]):
        shown = settings[row * columns : (row + 1) * columns]
        for position, setting in enumerate(shown):
            _draw_setting(
                axes, position, study.rows[study.rows.setting == setting], table[table.setting == setting], styles
            )
            axes.text(position, high, written[setting], ha="center", va="bottom", fontsize=8)
        axes.set_ylim(low, high + 0.16 * inch * lines)
        mark_reference_and_optimum(axes)
        axes.set_xticks(range(len(shown)), [names[setting] for setting in shown], fontsize=9)
        axes.set_xlim(-0.55, columns - 0.45)
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
        axes.set_ylabel(VALUE_LABEL)
    return figure


def _differences(setting: str, found: _Found, characters: int) -> str:
    """What stands above a setting: for each comparison its name, as many characters wide, and the difference."""
    lines = []
    for (variant, baseline), by in found.items():
        if setting in by:
            lines += textwrap.wrap(f"{name_of(variant)} - {name_of(baseline)}", characters)
            lines.append(signed(by[setting]))
    return "\n".join(lines)


def _draw_setting(
    axes: Axes, position: int, rows: pd.DataFrame, table: pd.DataFrame, styles: dict[str, SeriesStyle]
) -> None:
    """One lane for each variant: the seeds on its left, their mean and interval on its right."""
    lane = 0.8 / len(styles)
    for k, (variant, look) in enumerate(styles.items()):
        values = rows.loc[rows.variant == variant].drop_duplicates("seed").normalized_value.to_numpy()
        if not len(values):
            continue
        left = position + (k - len(styles) / 2) * lane
        dots = left + lane * np.linspace(0.08, 0.62, len(values))
        axes.scatter(dots, values, s=14, color=look.color, alpha=0.5, linewidths=0, marker=look.marker)
        mean, low, high, n = table.loc[table.variant == variant, list(ENDS)].iloc[0]
        errors = [[max(mean - low, 0)], [max(high - mean, 0)]] if n > 1 else None
        axes.errorbar(left + 0.8 * lane, mean, errors, fmt=look.marker, color=look.color, ms=6, capsize=5, lw=1.8)


def _rows(study: Study, settings: list[str], found: _Found) -> Figure:
    """Settings below each other; a row for each condition where there are many variants."""
    styles = looks(study.rows)
    table = means(study.rows, ["setting", "variant"])
    seeds = {
        key: rows.drop_duplicates("seed").normalized_value for key, rows in study.rows.groupby(["setting", "variant"])
    }
    ends = {(row.setting, row.variant): i for row, i in zip(table.itertuples(), intervals(table), strict=True)}
    apart = len(styles) > _MOST_VARIANTS
    if apart:  # they are told apart by their names
        of_method = looks(study.rows.assign(variant=study.rows.method))
        styles = {variant: of_method[variant.partition("\n")[0]] for variant in styles}
    names, lanes, written = [], [], []
    for setting in settings:
        present = [variant for variant in styles if (setting, variant) in ends]
        for group in [[variant] for variant in present] if apart else [present]:
            place = [flat(setting)] if len(settings) > 1 or not apart else []
            names.append(", ".join([*map(name_of, group), *place] if apart else place))
            lanes.append([ForestRow(styles[v], ends[setting, v], seeds[setting, v].to_numpy()) for v in group])
            told = [signed(by[setting]) for (v, _), by in found.items() if v in group and setting in by]
            written.append("\n".join(told[:4]))
    return forest_plot(names, lanes, written, VALUE_LABEL)
