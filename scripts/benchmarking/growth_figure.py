"""The figure of how cost grows: a column for each axis; rows for steps, evaluation and memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from alignsim.config.schema import Evaluation
from alignsim.report.figures.layout import WIDTH, columns_of, explain, new_figure
from scripts.benchmarking.growth import AXES
from scripts.benchmarking.sizes import Sizes

_LABELS = {
    "seeds": "Seeds",
    "n_pairs": "Preference pairs\nfor each seed",
    "output_dim": "Response length\n(tokens)",
    "hidden_dim": "Hidden width\n(units)",
}
_STYLES = {"dpo": ("#D55E00", "s", "DPO"), "rl": ("#0072B2", "o", "RL"), "evaluation": ("#009E73", "^", "Evaluation")}


def draw(table: pd.DataFrame, seeds: int) -> Figure:
    """Draw what was measured.

    Args:
        table: a row for each axis, value and work: `seconds_per_step_median`, `..._low`, `..._high`,
            `peak_memory_mib`.
        seeds: how many the other axes were measured with.
    """
    figure = new_figure(WIDTH, 6.4)
    grid = columns_of(figure, 3, len(AXES), share_x="col")
    for axes in grid.flat:  # before anything is drawn, so that limits suit the scale
        axes.set_yscale("log")
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    for axes in grid[2]:
        axes.yaxis.set_major_locator(LogLocator(base=2))
    for column, axis in zip(grid.T, AXES, strict=True):
        rows = table[table.axis == axis]
        _times(column[0], rows, ("dpo", "rl"), 1000)
        _times(column[1], rows, ("evaluation",), 1)
        _memory(column[2], rows)
        _number_axis(column[2], [int(value) for value in sorted(rows.value.unique())])
        column[2].set_xlabel(_LABELS[axis])
    labels = ("Seconds for\n1,000 steps", "Seconds for\nan evaluation", "Peak memory\n(MiB)")
    for axes, label in zip(grid[:, 0], labels, strict=True):
        axes.set_ylabel(label)
    explain(figure, [_says(table)], _handles(), _notes(seeds))
    return figure


def _says(table: pd.DataFrame) -> str:
    """How many times as long the steps of the most seeds take as those of the fewest."""
    seconds = table[table.axis == "seeds"].set_index(["work", "value"]).seconds_per_step_median
    fewest, most = seconds["dpo"].index.min(), seconds["dpo"].index.max()
    times = {work: seconds[work, most] / seconds[work, fewest] for work in ("dpo", "rl")}
    with_each = f"{times['dpo']:,.0f} steps of {fewest} with DPO, as {times['rl']:,.0f} with RL"
    return f"A step of {most:,} seeds takes as long as {with_each}"


def _times(axes: Axes, rows: pd.DataFrame, works: tuple[str, ...], times: int) -> None:
    for work in works:
        part = rows[rows.work == work].sort_values("value")
        color, marker, _ = _STYLES[work]
        seconds = part.seconds_per_step_median.to_numpy() * times
        spread = [seconds - part.seconds_per_step_low * times, part.seconds_per_step_high * times - seconds]
        axes.errorbar(part.value, seconds, yerr=spread, color=color, marker=marker, ms=4, lw=1.5, mec="white")
    _proportional(axes, rows[rows.work.isin(works)], times)


def _proportional(axes: Axes, rows: pd.DataFrame, times: int) -> None:
    """A line through the largest size that falls in proportion to the size."""
    largest = rows[rows.value == rows.value.max()]
    ends = np.array([rows.value.min(), rows.value.max()])
    top = float(largest.seconds_per_step_median.max()) * times
    axes.plot(ends, top * ends / ends[1], color="0.6", lw=1, ls="--", zorder=0, scaley=False)


def _memory(axes: Axes, rows: pd.DataFrame) -> None:
    for work, (color, marker, _) in _STYLES.items():
        part = rows[rows.work == work].sort_values("value")
        axes.plot(part.value, part.peak_memory_mib, color=color, marker=marker, ms=4, lw=1.5, mec="white")


def _number_axis(axes: Axes, values: list[int]) -> None:
    """A tick at every value, named where there is room: the largest, and every other one before it in a long row."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    named = set(values if len(values) <= 5 else values[::-2])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(round(value)) if value in named else ""))


def _short(number: int) -> str:
    return f"{number // 1000}k" if number >= 1000 and number % 1000 == 0 else str(number)


def _handles() -> list[Line2D]:
    measured = [
        Line2D([], [], color=color, marker=marker, ms=6, lw=2, mec="white", label=name)
        for color, marker, name in _STYLES.values()
    ]
    return [*measured, Line2D([], [], color="0.6", lw=1, ls="--", label="in proportion")]


def _notes(seeds: int) -> list[str]:
    limit = Evaluation().enumeration_limit
    listed = max(length for length in AXES["output_dim"] if Sizes().vocab_size ** length <= limit)
    return [
        f"Each axis is varied alone, from the default sizes with {seeds} seeds. Marks: medians; bars: smallest and "
        "largest repetition. Steps are timed in stacks as the command line trains them, without set-up.",
        f"Evaluation lists all responses while there are at most {limit:,}, here up to {listed} tokens, and samples "
        f"{Evaluation().samples} to each prompt above. Memory is that of the whole process, Python and torch included.",
    ]
