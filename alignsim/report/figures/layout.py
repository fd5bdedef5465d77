"""The layout of a figure: its size; a title, a legend and notes that never overlap; labels beside points."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from alignsim.report.figures.style import Drawing, shortened

#: The width of a figure in inches: letters of a wider one would be too small on a page 1000 pixels wide.
WIDTH = 8.0

#: The most entries of a legend.
_MOST_ENTRIES = 12


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure that pyplot does not know, of a size in inches without title, legend and notes."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def columns_of(figure: Figure, n_rows: int, n_columns: int, share_x: Literal["all", "col"] = "all") -> npt.NDArray[Any]:
    """Returns axes (rows, columns) that share scales, below empty axes for a legend wider than a column.

    With `share_x="col"` each column has its own x axis.
    """
    halves = figure.add_gridspec(2, 1, height_ratios=[0.001, 1])
    figure.add_subplot(halves[0]).set_axis_off()
    grid: npt.NDArray[Any] = (
        halves[1].subgridspec(n_rows, n_columns).subplots(sharex=share_x, sharey="row", squeeze=False)
    )
    return grid


def finish(
    name: str,
    heading: str,
    titles: Sequence[str],
    reading: str,
    figure: Figure,
    handles: Sequence[Artist],
    notes: Sequence[str],
    legend_room: float | None = None,
) -> Drawing:
    """Adds titles, legend and notes to a figure, and returns it as a drawing; see `explain` for the arguments."""
    explain(figure, titles, handles, notes, legend_room)
    return Drawing(name, heading, "; ".join(titles) + ".", reading, figure)


def explain(
    figure: Figure,
    titles: Sequence[str],
    handles: Sequence[Artist],
    notes: Sequence[str],
    legend_room: float | None = None,
) -> None:
    """Adds the titles on top, the legend above the first axes and the notes at the bottom; the figure grows by these.

    Args:
        figure: a figure whose axes are complete.
        titles: what the figure shows, each on a line or more.
        handles: the entries of the legend.
        notes: what the marks mean.
        legend_room: inches from the left end of the first axes to the figure's right edge; by default nearly all.
    """
    width, height = figure.get_size_inches()
    room = legend_room or width - 1.5
    wrapped = [line for title in titles for line in textwrap.wrap(title, int(10 * width))]
    if len(handles) > _MOST_ENTRIES:
        more = Line2D([], [], linestyle="none", label=f"and {len(handles) - _MOST_ENTRIES + 1} more")
        handles = [*handles[: _MOST_ENTRIES - 1], more]
    legend_rows = 0
    if handles:
        labels = [shortened(str(handle.get_label()), int(11 * room) - 8) for handle in handles]
        columns = max(int(13 * room / (max(map(len, labels)) + 9)), 1)
        legend_rows = -(-len(handles) // columns)
        figure.axes[0].legend(
            list(handles),
            labels,
            ncols=columns,
            fontsize=9,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            borderaxespad=0.2,
        )
    figure.suptitle("\n".join(wrapped), x=0.01, ha="left", fontsize=11, fontweight="bold")
    lines = [line for note in notes for line in textwrap.wrap(note, int(15 * width))]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color="0.3")
    figure.set_size_inches(width, height + 0.25 + 0.19 * len(wrapped) + 0.21 * legend_rows + 0.155 * len(lines))


def place_labels(figure: Figure, labels: Iterable[Annotation]) -> None:
    """Puts each label beside its point where it overlaps no earlier label; hides it where that is impossible."""
    figure.draw_without_rendering()
    boxes: list[Bbox] = []
    for label in labels:
        for offset in ((5, 5), (5, -11), (-16, 5), (-16, -11)):
            label.set_position(offset)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in boxes):
                boxes.append(box)
                break
        else:
            label.set_visible(False)
