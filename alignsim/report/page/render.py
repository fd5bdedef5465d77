"""The HTML of the page of a study. The template escapes everything that comes from configuration."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from alignsim.analysis.claims.preregistration import Preregistration
from alignsim.analysis.claims.text import p_text, prediction, quantity
from alignsim.analysis.claims.verdicts import MOST_DIVERGED, Verdict
from alignsim.analysis.statistics import FEWEST_SEEDS, LEVEL, Interval
from alignsim.analysis.study import NAMES, Study
from alignsim.analysis.summary import PRIMARY
from alignsim.report.page.provenance import moment, provenance
from alignsim.report.terminal import seeds_behind
from alignsim.runs.text import counted, three_decimals

if TYPE_CHECKING:
    from alignsim.report.figures.style import Drawing

#: How many rows each table of a page lists.
MOST_ROWS = 400

#: The measures in the tables of a page besides the normalized value; `summary.csv` has all.
SHOWN = ("regret", "statistical_regret", "computational_regret", "reward", "kl", "pair_accuracy")

_MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}


def render(
    study: Study,
    preregistration: Preregistration,
    verdicts: Sequence[Verdict],
    table: pd.DataFrame,
    drawings: Mapping[Drawing, Sequence[Path]],
    command: str,
) -> str:
    """Returns the page of a study, one HTML file that needs no other file.

    Args:
        study: the study.
        preregistration: what was asked and predicted.
        verdicts: on the claims.
        table: the summary of the study.
        drawings: the figures and their files, an SVG among them.
        command: what the user typed to make this page.
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
        title=preregistration.question or f"Study {study.name}",
        answer=_answer(verdicts, study),
        claims=[_claim(verdict) for verdict in verdicts],
        drawings=[_figure(drawing, paths) for drawing, paths in drawings.items()],
        tables=[
            ("means", "Means over seeds", _numbers(table[condition].head(MOST_ROWS))),
            ("differences", "Paired differences, seed by seed", _numbers(table[~condition].head(MOST_ROWS))),
        ],
        more=f"{counted(hidden, 'more row')} not shown here. " if hidden else "",
        fewest=FEWEST_SEEDS,
        level=LEVEL,
        diverged=f"{100 * MOST_DIVERGED:g} %",
        warnings=study.warnings,
        **provenance(study, preregistration, command),
    )


def _sha256(text: str) -> str:
    """The name of a script or a style in a content security policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _answer(verdicts: Sequence[Verdict], study: Study) -> str:
    """How many claims came out which way, and from how many conditions and seeds, in two or three sentences."""
    seeds = study.rows.groupby(list(NAMES)).seed.nunique()
    each = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    counts = {name: sum(verdict.outcome == name for verdict in verdicts) for name in _MARKS}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    claims = f"Of {counted(len(verdicts), 'claim')}: {parts}." if verdicts else "This study has no registered claims."
    conditions = f"{counted(len(seeds), 'condition')}, {each} seed{'s' * (each != '1')} each."
    warning = " Something failed, diverged or was left out: see below." * bool(study.warnings)
    return f"{claims} {conditions}{warning}"


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
        "seeds": f"{seeds_behind(verdict)}; registered for {verdict.record.planned_seeds}",
        "notes": verdict.notes,
        "earlier": [f"{quantity(earlier)}: {prediction(earlier)}" for earlier in verdict.record.earlier_versions],
        "source": verdict.claim.source,
        "registered": moment(verdict.record.registered_at),
        "registered_before_training": verdict.record.registered_before_training,
    }


def _interval(interval: Interval) -> str:
    return str(interval) if interval.n else ""


def _figure(drawing: Drawing, paths: Sequence[Path]) -> dict[str, str]:
    (svg,) = (path for path in paths if path.suffix == ".svg")
    content = base64.b64encode(svg.read_bytes()).decode()
    texts = {"name": drawing.name, "heading": drawing.heading, "says": drawing.says, "reading": drawing.reading}
    return {**texts, "svg": content}


def _numbers(table: pd.DataFrame) -> dict[str, Any]:
    """The summary as headings and rows of cells; a cell that is sorted by a number has it as its value."""
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
    text = "-" if not number else three_decimals(value) if decimals else f"{value:g}"
    return {"value": number, "text": text}


def _plain(value: float) -> str:
    return f"{value:.9g}" if value == value else ""
