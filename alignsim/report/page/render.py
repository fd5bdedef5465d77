"""From what was found in a study to the HTML of its page; everything from configuration is escaped by the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from alignsim.analysis.claims.preregistration import Registry
from alignsim.analysis.claims.text import counted, p_text, prediction, quantity
from alignsim.analysis.claims.verdicts import MOST_DIVERGED, Verdict
from alignsim.analysis.statistics import FEWEST_SEEDS, LEVEL, Interval, three
from alignsim.analysis.study import NAMES, Study
from alignsim.analysis.summary import PRIMARY, seeds_text
from alignsim.report.page.provenance import moment, provenance

if TYPE_CHECKING:
    from alignsim.report.figures.style import Drawing

#: How many rows a table of a page lists.
MOST_ROWS = 400

#: Measures in the table of a page beside the normalized value; the others are in summary.csv.
SHOWN = ("regret", "statistical_regret", "computational_regret", "reward", "kl", "pair_accuracy")

_MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}


def render(
    study: Study,
    registry: Registry,
    verdicts: Sequence[Verdict],
    table: pd.DataFrame,
    drawings: Sequence[tuple[Drawing, Sequence[Path]]],
    command: str,
) -> str:
    """The page of a study, one HTML file that needs nothing else.

    Args:
        study: its rows.
        registry: what was asked and predicted.
        verdicts: on the claims.
        table: its summary.
        drawings: its figures and their files, an SVG among them.
        command: what the user typed to get this page.
    """
    here = Path(__file__).parent
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    condition = table.method.isin(study.all_rows.method)
    hidden = sum(max(len(part) - MOST_ROWS, 0) for part in (table[condition], table[~condition]))
    return environment.get_template("template.html").render(
        style=style,
        style_hash=_sha256(style),
        script=script,
        script_hash=_sha256(script),
        name=study.name,
        title=registry.question or f"Study {study.name}",
        answer=_answer(verdicts, study),
        claims=[_claim(verdict) for verdict in verdicts],
        drawings=[_figure(drawing, paths) for drawing, paths in drawings],
        tables=[
            ("means", "Means over seeds", _numbers(table[condition].head(MOST_ROWS))),
            ("differences", "Paired differences, seed by seed", _numbers(table[~condition].head(MOST_ROWS))),
        ],
        more=f"{counted(hidden, 'more row')} not shown here. " if hidden else "",
        fewest=FEWEST_SEEDS,
        level=LEVEL,
        diverged=f"{100 * MOST_DIVERGED:g} %",
        warnings=study.warnings,
        **provenance(study, registry, command),
    )


def _sha256(text: str) -> str:
    """As a content security policy names a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _answer(verdicts: Sequence[Verdict], study: Study) -> str:
    """How the claims came out, and of what, in two or three sentences."""
    seeds = study.rows.groupby(list(NAMES)).seed.nunique()
    each = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    counts = {name: sum(verdict.outcome == name for verdict in verdicts) for name in _MARKS}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    told = f"Of {counted(len(verdicts), 'claim')}: {parts}." if verdicts else "No claims are registered for this study."
    told += f" {counted(len(seeds), 'condition')}, {each} seed{'s' * (each != '1')} each."
    return told + " Something failed, diverged or was left out: see below." * bool(study.warnings)


def _claim(verdict: Verdict) -> dict[str, Any]:
    improvement = verdict.improvement
    return {
        "name": verdict.name,
        "says": verdict.claim.says,
        "outcome": verdict.outcome,
        "mark": _MARKS[verdict.outcome],
        "why": verdict.why,
        "quantity": quantity(verdict.claim),
        "prediction": prediction(verdict.claim),
        "estimate": _interval(verdict.estimate),
        "middle": _interval(verdict.middle),
        "improvement": _interval(improvement) if improvement else "",
        "p": p_text(verdict.p),
        "p_against": p_text(verdict.p_against),
        "seeds": f"{seeds_text(verdict)}; registered for {verdict.made.seeds}",
        "notes": verdict.notes,
        "earlier": [f"{quantity(earlier)}: {prediction(earlier)}" for earlier in verdict.made.earlier],
        "source": verdict.claim.source,
        "registered": moment(verdict.made.registered),
        "registered_before_training": verdict.made.registered_before_training,
    }


def _interval(interval: Interval) -> str:
    return str(interval) if interval.n else ""


def _figure(drawing: Drawing, paths: Sequence[Path]) -> dict[str, str]:
    (svg,) = (path for path in paths if path.suffix == ".svg")
    content = base64.b64encode(svg.read_bytes()).decode()
    told = {"name": drawing.name, "heading": drawing.heading, "says": drawing.says, "reading": drawing.reading}
    return {**told, "svg": content}


def _numbers(table: pd.DataFrame) -> dict[str, Any]:
    """The summary as headings and cells; a cell has a value where it is sorted by a number."""
    labels = list(table.columns[: list(table.columns).index(PRIMARY)])
    if not table.diverged.any():
        labels.remove("diverged")
    middle = f"{PRIMARY}_interquartile_mean"
    shown = [name for name in SHOWN if table[name].notna().any()]
    rows = []
    for row in table.to_dict("records"):
        interval = Interval(row[PRIMARY], row[f"{PRIMARY}_low"], row[f"{PRIMARY}_high"], row["seeds"])
        cells = [_cell(row[label]) for label in labels]
        cells.append({"value": _plain(row[PRIMARY]), "text": str(interval) if interval.n else "-"})
        rows.append(cells + [_cell(row[name], decimals=True) for name in (middle, *shown)])
    headings = [*labels, "normalized value [95 %]", "interquartile mean", *shown]
    return {"columns": [heading.removeprefix("env.").replace("_", " ") for heading in headings], "rows": rows}


def _cell(value: object, decimals: bool = False) -> dict[str, str | None]:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return {"value": None, "text": str(value)}
    number = _plain(value)
    text = "-" if not number else three(value) if decimals else f"{value:g}"
    return {"value": number, "text": text}


def _plain(value: float) -> str:
    return f"{value:.9g}" if value == value else ""
