"""The main figure: the value of every variant in every setting, seed by seed, and its paired advantage."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignsim.analysis.statistics import Interval
from alignsim.analysis.study import MANY_METHODS, Study, flat
from alignsim.report.figures.forest import LEGEND_ROOM, ForestRow, forest_plot
from alignsim.report.figures.layout import finish, new_figure
from alignsim.report.figures.means import ENDS, MOST_COMPARISONS, advantages, intervals, means
from alignsim.report.figures.scales import mark_reference_and_optimum, value_limits
from alignsim.report.figures.style import (
    VALUE_LABEL,
    Drawing,
    SeriesStyle,
    broken,
    headline,
    interval_notes,
    name_of,
    seed_counts,
    series_styles,
    settings_of,
    signed,
    with_value,
)
from alignsim.runs.text import three_decimals

#: How many variants, over all settings, stand side by side before the settings continue in another row.
_VARIANTS_IN_A_ROW = 8

#: Up to so many settings and variants stand in columns, more of them in rows; still more conditions are not drawn.
_MOST_COLUMNS, _MOST_VARIANTS, MOST_CONDITIONS = 8, 4, 400

_Advantages = dict[tuple[str, str], dict[str, Interval]]


def draw(study: Study) -> list[Drawing]:
    """Draws value by setting: a mark for each seed, the mean with its interval, and the advantage beside it.

    A search is not drawn here: its trials have a figure of their own.
    """
    study = with_value(study)
    settings = settings_of(study)
    n_variants = study.rows.variant.nunique()
    conditions = len(study.rows[["setting", "variant"]].drop_duplicates())
    if not settings or len(settings) > MOST_CONDITIONS // 2 or conditions > MOST_CONDITIONS or study.searched:
        return []
    by_pair: _Advantages = {
        pair: {setting: by[setting] for setting in settings if setting in by}
        for pair, table in advantages(study, ["setting"]).items()
        for by in [dict(zip(table.setting, intervals(table), strict=True))]
    }
    in_columns = len(settings) <= _MOST_COLUMNS and n_variants <= _MOST_VARIANTS
    figure = _columns(study, settings, by_pair) if in_columns else _rows(study, settings, by_pair)
    titles = [line for pair, by in by_pair.items() for line in headline(*pair, by).splitlines()]
    if not titles or len(titles) > 4:
        titles = [_overall(study, settings)]
    reading = (
        "Each pale mark is one seed; each large mark is the mean over seeds with its 95 % interval. "
        "A policy at 1 is optimal; a policy at 0 is no better than the reference policy. "
    )
    if by_pair:
        reading += "A method is ahead where the interval of the printed difference does not contain 0."
    by_method = study.rows.assign(variant=study.rows.method) if n_variants > _MOST_VARIANTS else study.rows
    many = n_variants > _MOST_VARIANTS and study.rows.method.nunique() >= MANY_METHODS  # each row has its own name
    handles = [] if many else [style.handle(v) for v, style in series_styles(by_method).items()]
    notes, room = _notes(study, by_pair, in_columns), None if in_columns else LEGEND_ROOM
    return [
        finish("rlhf_vs_dpo_comparison", "Value by condition", titles, reading.strip(), figure, handles, notes, room)
    ]


def _overall(study: Study, settings: list[str]) -> str:
    """The lowest and the highest mean, where there is no comparison that a title could name."""
    table = means(study.rows, ["variant", "setting"])
    ends = [table.iloc[table["mean"].argmax()], table.iloc[table["mean"].argmin()]]
    if len(table) == 1:
        return f"Mean normalized value of {name_of(ends[0].variant)}: {three_decimals(ends[0]['mean'])}"
    parts = [
        f"{three_decimals(row['mean'])} ({name_of(row.variant)}"
        + (f" in {', '.join(row.setting.splitlines())})" if len(settings) > 1 else ")")
        for row in ends
    ]
    return f"Mean values lie between {parts[1]} and {parts[0]}"


def _notes(study: Study, by_pair: _Advantages, in_columns: bool) -> list[str]:
    small, large = ("Dots", "Large marks") if in_columns else ("Pale marks", "Full marks")
    notes = [f"{small}: seeds. {large}: mean and interval over {seed_counts(study.rows)}."]
    if by_pair:
        apart = study.rows.variant.nunique() > _MOST_VARIANTS
        pairs = dict.fromkeys(f"{'its row' if apart else name_of(v)} - {name_of(b)}" for v, b in by_pair)
        named = f"at the right: {', then '.join(list(pairs)[:4])}," if not in_columns else "above:"
        notes.append(f"Numbers {named} difference on the same seeds, mean [interval].")
    if len(study.comparisons) > MOST_COMPARISONS:
        notes.append(f"{len(study.comparisons)} pairs of variants are too many to print their differences.")
    error = study.rows.value_standard_error.div(study.rows.optimal_value - study.rows.reference_value).max()
    if error > 0:
        notes.append(f"Values are sampled, not enumerated: the standard error of each is at most {error:.2g}.")
    return [*notes, *interval_notes(study, study.rows)]


def _columns(study: Study, settings: list[str], by_pair: _Advantages) -> Figure:
    """Settings side by side, in as many rows as they need."""
    styles = series_styles(study.rows)
    n_variants = max(len(styles), 2)
    n_rows = -(-len(settings) // max(_VARIANTS_IN_A_ROW // n_variants, 1))
    columns = -(-len(settings) // n_rows)  # as even as possible
    width = max(7.2, 1.2 + 0.9 * columns * n_variants)
    characters = int(11 * (width - 1.6) / columns)
    differences = {setting: _differences(setting, by_pair, characters) for setting in settings}
    names = {setting: broken(setting, int(12.5 * (width - 1.6) / columns)) for setting in settings}
    lines, name_lines = (max(text.count("\n") + 1 for text in texts.values()) for texts in (differences, names))
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
            axes.text(position, high, differences[setting], ha="center", va="bottom", fontsize=8)
        axes.set_ylim(low, high + 0.16 * inch * lines)
        mark_reference_and_optimum(axes)
        axes.set_xticks(range(len(shown)), [names[setting] for setting in shown], fontsize=9)
        axes.set_xlim(-0.55, columns - 0.45)
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
        axes.set_ylabel(VALUE_LABEL)
    return figure


def _differences(setting: str, by_pair: _Advantages, characters: int) -> str:
    """The text above a setting: for each comparison its name, wrapped after so many characters, and the difference."""
    lines = []
    for (variant, baseline), by in by_pair.items():
        if setting in by:
            lines += textwrap.wrap(f"{name_of(variant)} - {name_of(baseline)}", characters)
            lines.append(signed(by[setting]))
    return "\n".join(lines)


def _draw_setting(
    axes: Axes, position: int, rows: pd.DataFrame, table: pd.DataFrame, styles: dict[str, SeriesStyle]
) -> None:
    """A strip for each variant: its seeds on the left, their mean and interval on the right."""
    width = 0.8 / len(styles)
    for k, (variant, style) in enumerate(styles.items()):
        values = rows.loc[rows.variant == variant].drop_duplicates("seed").normalized_value.to_numpy()
        if not len(values):
            continue
        left = position + (k - len(styles) / 2) * width
        dots = left + width * np.linspace(0.08, 0.62, len(values))
        axes.scatter(dots, values, s=14, color=style.color, alpha=0.5, linewidths=0, marker=style.marker)
        mean, low, high, n = table.loc[table.variant == variant, list(ENDS)].iloc[0]
        errors = [[max(mean - low, 0)], [max(high - mean, 0)]] if n > 1 else None
        axes.errorbar(left + 0.8 * width, mean, errors, fmt=style.marker, color=style.color, ms=6, capsize=5, lw=1.8)


def _rows(study: Study, settings: list[str], by_pair: _Advantages) -> Figure:
    """Settings below each other; a row for each condition where there are many variants."""
    styles = series_styles(study.rows)
    table = means(study.rows, ["setting", "variant"])
    seeds = {
        key: rows.drop_duplicates("seed").normalized_value for key, rows in study.rows.groupby(["setting", "variant"])
    }
    ends = {(row.setting, row.variant): i for row, i in zip(table.itertuples(), intervals(table), strict=True)}
    apart = len(styles) > _MOST_VARIANTS
    if apart:  # they are told apart by their names
        of_method = series_styles(study.rows.assign(variant=study.rows.method))
        styles = {variant: of_method[variant.partition("\n")[0]] for variant in styles}
    names, rows, remarks = [], [], []
    for setting in settings:
        present = [variant for variant in styles if (setting, variant) in ends]
        for group in [[variant] for variant in present] if apart else [present]:
            setting_name = [flat(setting)] if len(settings) > 1 or not apart else []
            names.append(", ".join([*map(name_of, group), *setting_name] if apart else setting_name))
            rows.append([ForestRow(styles[v], ends[setting, v], seeds[setting, v].to_numpy()) for v in group])
            differences = [signed(by[setting]) for (v, _), by in by_pair.items() if v in group and setting in by]
            remarks.append("\n".join(differences[:4]))
    return forest_plot(names, rows, remarks, VALUE_LABEL)
