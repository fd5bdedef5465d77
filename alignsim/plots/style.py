"""What all figures share: what a drawing is, fonts, the look of each method, titles and notes, how files are saved."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from alignsim.results import write_whole
from alignsim.statistics import Interval
from alignsim.study import Study
from alignsim.summary import PRIMARY

#: Okabe and Ito's colours, which colour-blind readers can tell apart; markers differ for readers in grey.
_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "^vDP*X<>"

T = TypeVar("T")

#: How a line is dashed, as matplotlib takes it.
Dash: TypeAlias = Literal["-", "--", ":", "-."] | tuple[float, tuple[float, ...]]

VALUE_LABEL = "Normalized value\n(0 = reference policy, 1 = optimum)"

#: Width of a figure in inches: more would make letters too small on a page 1000 pixels wide.
WIDTH = 8.0

#: Entries of a legend, and seeds below which a bootstrap interval is too narrow.
_MOST_ENTRIES, _FEW_SEEDS = 12, 8


@dataclass(frozen=True)
class Drawing:
    """A figure and what is said about it.

    Attributes:
        name: of its files, without suffix.
        heading: a few words, for a page.
        says: what the numbers show, and no more: the title of the figure, and its alternative text on a page.
        reading: how to read it, for a student.
        figure: what is drawn.
    """

    name: str
    heading: str
    says: str
    reading: str
    figure: Figure


def use_house_style() -> None:
    """Draw without a screen, in the same fonts everywhere."""
    mpl.use("agg")
    mpl.rcParams.update(
        {
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "legend.frameon": False,
            "savefig.dpi": 160,
            "svg.hashsalt": "alignsim",
            "text.parse_math": False,  # a $ in a name is a $
        }
    )


class Look(NamedTuple):
    """How a variant is drawn."""

    colour: str
    marker: str

    def handle(self, variant: str) -> Line2D:
        """Its entry in a legend."""
        return Line2D([], [], color=self.colour, marker=self.marker, lw=2, ms=7, mec="white", label=name_of(variant))


_KNOWN = {"rlhf": Look("#0072B2", "o"), "dpo": Look("#D55E00", "s")}
_ORDER = {"rlhf": 0, "dpo": 1}


def looks(rows: pd.DataFrame) -> dict[str, Look]:
    """The look of each variant of a study, RLHF and DPO first; that of their first variant never changes."""
    variants = sorted(rows.variant.unique(), key=lambda v: (_ORDER.get(_method(v), len(_ORDER)), v))
    first = {_method(variant): variant for variant in reversed(variants)}
    spare = (Look(*pair) for pair in zip(cycle(_COLOURS), cycle(_MARKERS), strict=False))
    known = {first[method]: look for method, look in _KNOWN.items() if method in first}
    return {variant: known.get(variant) or next(spare) for variant in variants}


def _method(variant: str) -> str:
    return variant.partition("\n")[0]


def name_of(variant: str) -> str:
    """How a variant is written in figures, on one line."""
    method, *rest = variant.splitlines()
    return ", ".join([{"rlhf": "RLHF", "dpo": "DPO"}.get(method, method), *rest])


def with_value(study: Study) -> Study:
    """The study without the rows whose normalized value is unknown, as where no optimum is."""
    return replace(study, rows=study.rows[np.isfinite(study.rows[PRIMARY].astype(float))])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in no global list of figures, so many inches large without title, legend and notes."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def columns_of(figure: Figure, n_rows: int, n_columns: int) -> npt.NDArray[Any]:
    """Axes (rows, columns) that share scales, below empty ones for a legend that may be wider than a column."""
    halves = figure.add_gridspec(2, 1, height_ratios=[0.001, 1])
    figure.add_subplot(halves[0]).set_axis_off()
    grid: npt.NDArray[Any] = halves[1].subgridspec(n_rows, n_columns).subplots(sharex=True, sharey="row", squeeze=False)
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
    """Write the titles, the legend and the notes into a figure, and make a drawing of it."""
    explain(figure, titles, handles, notes, legend_room)
    return Drawing(name, heading, "; ".join(titles) + ".", reading, figure)


def explain(
    figure: Figure,
    titles: Sequence[str],
    handles: Sequence[Artist],
    notes: Sequence[str],
    legend_room: float | None = None,
) -> None:
    """What the figure says on top, the legend above the first axes, what the marks mean below; it grows by these.

    Args:
        figure: whose axes are drawn already.
        titles: what it says, a line or more for each.
        handles: entries of the legend.
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


def shortened(text: str, characters: int) -> str:
    """A name on one line, cut off after so many characters."""
    text = ", ".join(text.splitlines())
    return text if len(text) <= characters else text[: max(characters, 2) - 1] + "…"


def broken(text: str, characters: int) -> str:
    """A name whose lines are broken after so many characters."""
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, max(characters, 8)) or [""])


def place_labels(figure: Figure, labels: Iterable[Annotation]) -> None:
    """Put each label where it overlaps none before it, beside its point; hide it where there is no such place."""
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


def more_of(count: int, what: str) -> str:
    """A note that so many settings or variants are not drawn; empty for none."""
    return (
        f" {count} more {what}{'' if count == 1 else 's'} {'is' if count == 1 else 'are'} not drawn."
        if count > 0
        else ""
    )


def settings_of(study: Study) -> list[str]:
    """The settings in order of what varies."""
    return list(dict.fromkeys(study.rows.sort_values([*study.shared, "env"]).setting))


def spread(items: Sequence[T], most: int) -> list[T]:
    """All of them, or so many in even steps from the first to the last."""
    n = len(items)
    return list(items) if n <= most else [items[round(i * (n - 1) / (most - 1))] for i in range(most)]


def file_names(stem: str, keys: Iterable[str]) -> dict[str, str]:
    """A file name for each dotted key, such as `value_by_n_pairs`: no more of the key than tells it from the others."""
    chosen = dict.fromkeys(keys, "")
    for key in chosen:
        parts = key.split(".")
        endings = (parts[-i:] for i in range(1, len(parts) + 1))
        unique = [e for e in endings if sum(other.split(".")[-len(e) :] == e for other in chosen) == 1]
        chosen[key] = stem + re.sub(r"[^\w-]+", "_", "_".join(unique[0] if unique else parts))
    return chosen


def interval_notes(study: Study, rows: pd.DataFrame) -> list[str]:
    """What the intervals are, whether they can be relied on, and what was left out."""
    least = rows.groupby(["variant", "setting"]).seed.nunique().min() if len(rows) else 0
    kind = "Intervals: 95 % BCa bootstrap over seeds."
    if 1 < least < _FEW_SEEDS:
        kind += f" With as few as {least} seeds they are too narrow."
    return [kind] + ([study.left_out] if study.left_out else [])


def seed_counts(rows: pd.DataFrame) -> str:
    """How many seeds stand behind each mean, such as `16 seeds` or `4 to 16 seeds`."""
    counts = rows.groupby(["variant", "setting"]).seed.nunique()
    least, most = counts.min(), counts.max()
    return f"{least} to {most} seeds" if least < most else "1 seed" if most == 1 else f"{most} seeds"


def signed(interval: Interval) -> str:
    """An advantage and its interval, such as `+0.33 [0.29, 0.38]`."""
    if interval.n < 2:
        return f"{interval.mean:+.3f} (one seed)"
    return f"{interval.mean:+.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def measured(interval: Interval) -> str:
    """A mean and its interval, such as `0.33 [0.29, 0.38]`."""
    return f"{interval.mean:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.n > 1 else "")


def headline(variant: str, baseline: str, advantages: Mapping[str, Interval]) -> str:
    """A title that says what the intervals show, and no more.

    Args:
        variant: what is compared.
        baseline: what it is compared with.
        advantages: the paired advantage of the variant in each setting, at least one.
    """
    ahead, behind = name_of(variant), name_of(baseline)
    if all(interval.n < 2 for interval in advantages.values()):
        return f"{ahead} and {behind}: one seed, so no interval and no conclusion"
    leads = [interval.lead for interval in advantages.values()]
    if len(leads) > 3:
        return (
            f"{ahead} is ahead of {behind} in {leads.count(1)} of {len(leads)} settings, behind in"
            f" {leads.count(-1)}; no difference detected in {leads.count(0)}"
            + (f"; one seed only in {leads.count(None)}" if None in leads else "")
        )
    said: dict[int | None, str] = {
        1: "{0} is ahead of {1} by {2:.3f}",
        -1: "{1} is ahead of {0} by {2:.3f}",
        0: "no difference of {0} and {1} detected",
        None: "one seed of {0} and {1}, no conclusion",
    }
    parts = []
    for setting, interval in advantages.items():
        told = said[interval.lead].format(ahead, behind, abs(interval.mean))
        parts.append(f"{', '.join(setting.splitlines())}: {told}")
    return "\n".join(parts)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG, each whole or not at all; `path` has no suffix."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what it found serves both
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    write_whole(
        {
            png: lambda aside: figure.savefig(aside, format="png"),
            svg: lambda aside: figure.savefig(aside, format="svg", metadata={"Date": None}),
        }
    )
    return [png, svg]
