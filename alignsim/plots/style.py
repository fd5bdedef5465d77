"""What all figures share: fonts, the colour and marker of each method, how values are named, how files are saved."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alignsim.results.files import write_whole
from alignsim.statistics import Interval

#: Okabe and Ito's colours, which colour-blind readers can tell apart; markers differ for readers in grey.
_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "^vDP*X<>"

VALUE_LABEL = "Normalized value\n(0 = reference policy, 1 = optimum)"


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


def mark_reference_and_optimum(axes: Axes) -> None:
    """Lines at 0 and 1 with their names, so that the scale needs no further explanation."""
    for height, name in ((0, "reference\npolicy"), (1, "optimum")):
        axes.axhline(height, color="0.45", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axes.text(1.01, height, name, transform=axes.get_yaxis_transform(), color="0.35", fontsize=8, va="center")


def explain(figure: Figure, titles: list[str], handles: list[Line2D], notes: list[str]) -> None:
    """What the figure says on top, the legend above the first axes, what the marks mean below."""
    width = figure.get_size_inches()[0]
    wrapped = [line for title in titles for line in textwrap.wrap(title, int(10 * width))]
    figure.suptitle("\n".join(wrapped), x=0.01, ha="left", fontsize=11, fontweight="bold")
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(int(11 * (width - 1.5) / (longest + 8)), 1)
    figure.axes[0].legend(
        handles=handles, ncols=columns, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2
    )
    lines = [line for note in notes for line in textwrap.wrap(note, int(16 * width))]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color="0.3")


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
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    write_whole(
        {
            png: lambda aside: figure.savefig(aside, format="png"),
            svg: lambda aside: figure.savefig(aside, format="svg", metadata={"Date": None}),
        }
    )
    return [png, svg]
