"""What all figures share: what a drawing is, fonts, the look of each method, titles and notes, how files are saved."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alignsim.analysis.statistics import FEWEST_SEEDS, Interval, three
from alignsim.analysis.study import Study, flat
from alignsim.analysis.summary import PRIMARY
from alignsim.runs.storage.atomic import write_atomically

#: Okabe and Ito's colors, which color-blind readers can tell apart; markers differ for readers in gray.
_COLORS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "^vDP*X<>"

T = TypeVar("T")

#: How a line is dashed, as matplotlib takes it.
Dash: TypeAlias = Literal["-", "--", ":", "-."] | tuple[float, tuple[float, ...]]

#: An advantage whose interval is closer to 0 than this, in units of the optimum, is told as a tie.
TIE = 0.05

VALUE_LABEL = "Normalized value\n(0 = reference policy, 1 = optimum)"


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


class SeriesStyle(NamedTuple):
    """How a variant is drawn."""

    color: str
    marker: str

    def handle(self, variant: str) -> Line2D:
        """Its entry in a legend."""
        return Line2D([], [], color=self.color, marker=self.marker, lw=2, ms=7, mec="white", label=name_of(variant))


_KNOWN = {"rlhf": SeriesStyle("#0072B2", "o"), "dpo": SeriesStyle("#D55E00", "s")}
_ORDER = {"rlhf": 0, "dpo": 1}


def looks(rows: pd.DataFrame) -> dict[str, SeriesStyle]:
    """The look of each variant of a study: RLHF, DPO, the other methods from the best on.

    That of the first variant of RLHF and of DPO never changes.
    """
    value = rows.groupby("method")[PRIMARY].mean().fillna(-np.inf)
    order = {str(method): (_ORDER.get(str(method), len(_ORDER)), -mean) for method, mean in value.items()}
    variants = sorted(rows.variant.unique(), key=lambda v: (*order[_method(v)], v))
    first = {_method(variant): variant for variant in reversed(variants)}
    spare = (SeriesStyle(*pair) for pair in zip(cycle(_COLORS), cycle(_MARKERS), strict=False))
    known = {first[method]: look for method, look in _KNOWN.items() if method in first}
    return {variant: known.get(variant) or next(spare) for variant in variants}


def known_look(variant: str) -> SeriesStyle:
    """The look of RLHF and DPO, or a plain one: for figures of many methods, in which names tell them apart."""
    return _KNOWN.get(_method(variant), SeriesStyle("0.3", "o"))


def _method(variant: str) -> str:
    return variant.partition("\n")[0]


def name_of(variant: str) -> str:
    """How a variant is written in figures, on one line."""
    method, *rest = variant.splitlines()
    return ", ".join([{"rlhf": "RLHF", "dpo": "DPO"}.get(method, method), *rest])


def with_value(study: Study) -> Study:
    """The study without the rows whose normalized value is unknown, as where no optimum is."""
    return replace(study, rows=study.rows[np.isfinite(study.rows[PRIMARY].astype(float))])


def shortened(text: str, characters: int) -> str:
    """A name on one line, cut off after so many characters."""
    text = flat(text)
    return text if len(text) <= characters else text[: max(characters, 2) - 1] + "…"


def broken(text: str, characters: int) -> str:
    """A name whose lines are broken after so many characters."""
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, max(characters, 8)) or [""])


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
    counts = rows.groupby(["variant", "setting"]).seed.nunique()
    if len(counts) and counts.max() < 2:
        kind = "One seed of each, so no intervals."
    else:
        kind = "Intervals: 95 % BCa bootstrap over seeds."
        several = counts[counts > 1]
        if len(several) and several.min() < FEWEST_SEEDS:
            kind += f" With as few as {several.min()} seeds they are too narrow."
    return [kind] + ([study.left_out] if study.left_out else [])


def seed_counts(rows: pd.DataFrame) -> str:
    """How many seeds stand behind each mean, such as `16 seeds` or `4 to 16 seeds`."""
    counts = rows.groupby(["variant", "setting"]).seed.nunique()
    least, most = counts.min(), counts.max()
    return f"{least} to {most} seeds" if least < most else "1 seed" if most == 1 else f"{most} seeds"


def signed(interval: Interval) -> str:
    """An advantage and its interval, such as `+0.33 [0.29, 0.38]`."""
    if interval.n < 2:
        return f"{'+' * (interval.mean >= 0)}{three(interval.mean)} (one seed)"
    return f"{'+' * (interval.mean >= 0)}{interval}"


def headline(variant: str, baseline: str, advantages: Mapping[str, Interval]) -> str:
    """A title that says what the intervals show, and no more; with few seeds that is nothing.

    Args:
        variant: what is compared.
        baseline: what it is compared with.
        advantages: the paired advantage of the variant in each setting, at least one.
    """
    ahead, behind = name_of(variant), name_of(baseline)
    if all(interval.n < 2 for interval in advantages.values()):
        return f"{ahead} and {behind}: one seed, so no interval and no conclusion"
    if all(interval.lead is None for interval in advantages.values()):
        most = max(interval.n for interval in advantages.values())
        return f"{ahead} and {behind}: {most} seeds are too few for a conclusion"
    words = {
        "ahead": f"{ahead} is ahead of {behind} by {{:.3f}}",
        "behind": f"{behind} is ahead of {ahead} by {{:.3f}}",
        f"within {TIE:g}": f"{ahead} and {behind} are within {TIE:g} of each other",
        "no difference detected": f"no difference of {ahead} and {behind} detected",
        "too few seeds": f"too few seeds of {ahead} and {behind} for a conclusion",
    }
    found = {setting: _outcome(interval) for setting, interval in advantages.items()}
    if len(found) > 3:
        counts = {word: list(found.values()).count(word) for word in words}
        if counts["ahead"] == len(found):
            return f"{ahead} is ahead of {behind} in all {len(found)} settings"
        told = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
        return f"{ahead} against {behind} in {len(found)} settings: {told}"
    parts = [
        f"{flat(setting)}: {words[outcome].format(abs(advantages[setting].mean))}" for setting, outcome in found.items()
    ]
    return "\n".join(parts)


def _outcome(interval: Interval) -> str:
    """What an advantage and its interval show."""
    if interval.lead is None:
        return "too few seeds"
    if interval.low > -TIE and interval.high < TIE:
        return f"within {TIE:g}"
    return {1: "ahead", -1: "behind"}.get(interval.lead, "no difference detected")


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG, each whole or not at all; `path` has no suffix."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what it found serves both
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    write_atomically(
        {
            png: lambda aside: figure.savefig(aside, format="png"),
            svg: lambda aside: figure.savefig(aside, format="svg", metadata={"Date": None}),
        }
    )
    return [png, svg]
