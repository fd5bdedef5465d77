"""What all figures share: drawings, fonts, the style of each method, titles and notes, and saving files."""

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

from alignsim.analysis.statistics import FEWEST_SEEDS, Interval
from alignsim.analysis.study import Study, flat
from alignsim.analysis.summary import PRIMARY
from alignsim.runs.storage.atomic import write_atomically
from alignsim.runs.text import counted, three_decimals

#: The colors of Okabe and Ito, which color-blind readers can tell apart; markers differ for printing in gray.
_COLORS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "^vDP*X<>"

T = TypeVar("T")

#: How a line is dashed, in matplotlib's form.
Dash: TypeAlias = Literal["-", "--", ":", "-."] | tuple[float, tuple[float, ...]]

#: An advantage whose whole interval is closer to 0 than this, in units of normalized value, is called a tie.
TIE = 0.05

#: A title lists the outcome in each of at most so many settings.
_MOST_LISTED_SETTINGS = 3

VALUE_LABEL = "Normalized value\n(0 = reference policy, 1 = optimum)"


@dataclass(frozen=True)
class Drawing:
    """A figure and its texts.

    Attributes:
        name: the name of its files, without suffix.
        heading: a few words, for the page.
        says: what the numbers show, and no more: the title of the figure, and its alternative text on the page.
        reading: how to read the figure, for a student.
        figure: the figure itself.
    """

    name: str
    heading: str
    says: str
    reading: str
    figure: Figure


def use_house_style() -> None:
    """Sets matplotlib to draw without a screen and with the same fonts everywhere."""
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
    """The color and the marker of a variant."""

    color: str
    marker: str

    def handle(self, variant: str) -> Line2D:
        """Returns the entry of the variant in a legend."""
        return Line2D([], [], color=self.color, marker=self.marker, lw=2, ms=7, mec="white", label=name_of(variant))


_KNOWN = {"rlhf": SeriesStyle("#0072B2", "o"), "dpo": SeriesStyle("#D55E00", "s")}
_ORDER = {"rlhf": 0, "dpo": 1}


def series_styles(rows: pd.DataFrame) -> dict[str, SeriesStyle]:
    """Returns the style of each variant of a study, in the order RLHF, DPO, other methods by value.

    The first variants of RLHF and of DPO have the same style in every figure.
    """
    value = rows.groupby("method")[PRIMARY].mean().fillna(-np.inf)
    order = {str(method): (_ORDER.get(str(method), len(_ORDER)), -mean) for method, mean in value.items()}
    variants = sorted(rows.variant.unique(), key=lambda v: (*order[_method(v)], v))
    first = {_method(variant): variant for variant in reversed(variants)}
    spare = (SeriesStyle(*pair) for pair in zip(cycle(_COLORS), cycle(_MARKERS), strict=False))
    known = {first[method]: style for method, style in _KNOWN.items() if method in first}
    return {variant: known.get(variant) or next(spare) for variant in variants}


def known_style(variant: str) -> SeriesStyle:
    """Returns the style of RLHF or DPO, or a plain one: for figures of many methods, which are told apart by name."""
    return _KNOWN.get(_method(variant), SeriesStyle("0.3", "o"))


def _method(variant: str) -> str:
    return variant.partition("\n")[0]


def name_of(variant: str) -> str:
    """Returns the name of a variant in figures, on one line."""
    method, *rest = variant.splitlines()
    return ", ".join([{"rlhf": "RLHF", "dpo": "DPO"}.get(method, method), *rest])


def with_value(study: Study) -> Study:
    """Returns the study without the rows whose normalized value is unknown, as in worlds without a known optimum."""
    return replace(study, rows=study.rows[np.isfinite(study.rows[PRIMARY].astype(float))])


def shortened(text: str, characters: int) -> str:
    """Returns a name on one line, cut off after so many characters."""
    text = flat(text)
    return text if len(text) <= characters else text[: max(characters, 2) - 1] + "…"


def broken(text: str, characters: int) -> str:
    """Returns a name whose lines are wrapped after so many characters."""
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, max(characters, 8)) or [""])


def more_of(count: int, what: str) -> str:
    """Returns a note that so many settings or variants are not drawn, after a space; empty for none."""
    return f" {counted(count, f'more {what}')} {'is' if count == 1 else 'are'} not drawn." if count > 0 else ""


def settings_of(study: Study) -> list[str]:
    """Returns the settings in the order of the values that vary."""
    return list(dict.fromkeys(study.rows.sort_values([*study.shared, "env"]).setting))


def evenly_spaced(items: Sequence[T], most: int) -> list[T]:
    """Returns all items, or so many of them, in even steps from the first to the last."""
    n = len(items)
    return list(items) if n <= most else [items[round(i * (n - 1) / (most - 1))] for i in range(most)]


def file_names(stem: str, keys: Iterable[str]) -> dict[str, str]:
    """Returns a file name for each dotted key, with as few parts of the key as tell it apart, as `value_by_n_pairs`."""
    chosen = dict.fromkeys(keys, "")
    for key in chosen:
        parts = key.split(".")
        endings = (parts[-i:] for i in range(1, len(parts) + 1))
        unique = [e for e in endings if sum(other.split(".")[-len(e) :] == e for other in chosen) == 1]
        chosen[key] = stem + re.sub(r"[^\w-]+", "_", "_".join(unique[0] if unique else parts))
    return chosen


def interval_notes(study: Study, rows: pd.DataFrame) -> list[str]:
    """Returns notes on what the intervals are, whether they are reliable, and which seeds were left out."""
    counts = rows.groupby(["variant", "setting"]).seed.nunique()
    if len(counts) and counts.max() < 2:
        kind = "One seed of each, so there are no intervals."
    else:
        kind = "Intervals: 95 % BCa bootstrap over seeds."
        several = counts[counts > 1]
        if len(several) and several.min() < FEWEST_SEEDS:
            kind += f" With as few as {several.min()} seeds they are too narrow."
    return [kind] + ([study.left_out] if study.left_out else [])


def seed_counts(rows: pd.DataFrame) -> str:
    """Returns how many seeds each mean rests on, such as `16 seeds` or `4 to 16 seeds`."""
    counts = rows.groupby(["variant", "setting"]).seed.nunique()
    least, most = counts.min(), counts.max()
    return f"{least} to {most} seeds" if least < most else counted(most, "seed")


def signed(interval: Interval) -> str:
    """Returns an advantage and its interval, such as `+0.33 [0.29, 0.38]`."""
    if interval.n < 2:
        return f"{'+' * (interval.mean >= 0)}{three_decimals(interval.mean)} (one seed)"
    return f"{'+' * (interval.mean >= 0)}{interval}"


def headline(variant: str, baseline: str, advantages: Mapping[str, Interval]) -> str:
    """Returns a title that says what the intervals show, and no more; with few seeds they show nothing.

    Args:
        variant: what is compared.
        baseline: what it is compared with.
        advantages: the paired advantage of the variant in each setting, at least one.
    """
    first, second = name_of(variant), name_of(baseline)
    if all(interval.n < 2 for interval in advantages.values()):
        return f"{first} and {second}: one seed, so no interval and no conclusion"
    if all(interval.lead is None for interval in advantages.values()):
        most = max(interval.n for interval in advantages.values())
        return f"{first} and {second}: {most} seeds are too few for a conclusion"
    outcomes = {setting: _outcome(interval) for setting, interval in advantages.items()}
    if len(outcomes) > _MOST_LISTED_SETTINGS:
        return _counts_of_outcomes(first, second, list(outcomes.values()))
    sentences = {
        "ahead": f"{first} is ahead of {second} by {{:.3f}}",
        "behind": f"{second} is ahead of {first} by {{:.3f}}",
        f"within {TIE:g}": f"{first} and {second} are within {TIE:g} of each other",
        "no difference detected": f"no difference between {first} and {second} detected",
        "too few seeds": f"too few seeds of {first} and {second} for a conclusion",
    }
    return "\n".join(
        f"{flat(setting)}: {sentences[outcome].format(abs(advantages[setting].mean))}"
        for setting, outcome in outcomes.items()
    )


def _counts_of_outcomes(first: str, second: str, outcomes: list[str]) -> str:
    """In how many settings the first variant is ahead of the second, behind, and so on."""
    words = ("ahead", "behind", f"within {TIE:g}", "no difference detected", "too few seeds")
    if outcomes.count("ahead") == len(outcomes):
        return f"{first} is ahead of {second} in all {len(outcomes)} settings"
    counts = ", ".join(f"{word} in {outcomes.count(word)}" for word in words if word in outcomes)
    return f"{first} against {second} in {len(outcomes)} settings: {counts}"


def _outcome(interval: Interval) -> str:
    """What an advantage and its interval show, in a few words."""
    if interval.lead is None:
        return "too few seeds"
    if interval.low > -TIE and interval.high < TIE:
        return f"within {TIE:g}"
    return {1: "ahead", -1: "behind"}.get(interval.lead, "no difference detected")


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes a figure as PNG and SVG, each completely or not at all, and returns their paths; `path` has no suffix."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout serves both files
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    write_atomically(
        {
            png: lambda temporary: figure.savefig(temporary, format="png"),
            svg: lambda temporary: figure.savefig(temporary, format="svg", metadata={"Date": None}),
        }
    )
    return [png, svg]
