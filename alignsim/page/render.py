"""From what was found in a study to the HTML of its page; everything from configuration is escaped by the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from alignsim.claims import Registry
from alignsim.results.folder import RunFolder
from alignsim.results.states import Status
from alignsim.results.tables import span
from alignsim.statistics import Interval, three
from alignsim.study import NAMES, Study, condition_keys
from alignsim.summary import PRIMARY
from alignsim.verdicts import FEWEST_SEEDS, Verdict, prediction, quantity

if TYPE_CHECKING:
    from alignsim.plots.style import Drawing

#: How many conditions the table of a page lists, how many values of a key and how many commands are told.
MOST_ROWS, MOST_VALUES, MOST_COMMANDS = 400, 20, 20

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
    statuses = _statuses(study)
    more = f"{len(table) - MOST_ROWS} more rows are in summary.csv. " if len(table) > MOST_ROWS else ""
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
        table=_numbers(table.head(MOST_ROWS)),
        more=more,
        fewest=FEWEST_SEEDS,
        complaints=[*study.complaints, *([study.left_out] if study.left_out else [])],
        **_provenance(study, registry, statuses, command),
    )


def _sha256(text: str) -> str:
    """As a content security policy names a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _answer(verdicts: Sequence[Verdict], study: Study) -> str:
    """How the claims came out, in one sentence."""
    seeds = study.rows.groupby(list(NAMES)).seed.nunique()
    told = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    behind = f"{len(seeds)} conditions, {told} seeds each."
    if not verdicts:
        return f"No claims were made about this study. {behind}"
    counts = {name: sum(verdict.outcome == name for verdict in verdicts) for name in _MARKS}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"Of {len(verdicts)} claims: {parts}. {behind}"


def _claim(verdict: Verdict) -> dict[str, Any]:
    improvement = verdict.improvement
    lost = f", {verdict.diverged} left out because their training diverged" if verdict.diverged else ""
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
        "p": f"{verdict.p:.2g}",
        "p_against": f"{verdict.p_against:.2g}",
        "seeds": f"{verdict.seeds}{lost}",
        "source": verdict.claim.source,
        "registered": _moment(verdict.made.registered),
        "before_data": verdict.made.before_data,
    }


def _interval(interval: Interval) -> str:
    return str(interval) if interval.n > 1 else ""


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


def _statuses(study: Study) -> list[Status]:
    """Of every condition that is shown."""
    if study.folder is None or "run" not in study.rows:
        return []
    found = (RunFolder(study.folder / run).status() for run in sorted(study.all_rows.run.unique()))
    return [status for status in found if status is not None]


def _provenance(study: Study, registry: Registry, statuses: Sequence[Status], command: str) -> dict[str, Any]:
    """How the study was made: commands, dates, versions, devices, configuration."""
    rows = study.all_rows
    moments = sorted(moment for status in statuses for moment in (status.started, status.ended or "") if moment)
    typed = list(dict.fromkeys([*([registry.command] if registry.command else []), *(s.command for s in statuses)]))
    commands = [_as_typed(text) for text in typed if text]
    left = len(commands) - MOST_COMMANDS
    commands = commands[:MOST_COMMANDS] + [f"... and {left} more, in the status.json of each condition"] * (left > 0)
    versions: dict[str, set[str]] = {}
    for status in statuses:
        for package, number in status.versions.items():
            versions.setdefault(package, set()).add(number)
        versions.setdefault("device", set()).add(status.device)
    versions["seeds"] = {span(sorted(map(int, rows.seed.unique())))}
    analysed = ", ".join(f"{package} {version(package)}" for package in ("alignsim", "numpy", "scipy", "pandas"))
    versions["summarised with"] = {analysed}
    shared = [key for key in condition_keys(rows) if key not in study.varied and rows[key].notna().any()]
    conditions = rows.drop_duplicates(list(NAMES))
    return {
        "count": f"{len(conditions)} conditions with {len(rows)} finished runs (a run is a condition and a seed).",
        "trained": f"{_moment(moments[0])} to {_moment(moments[-1])}" if moments else "at an unknown time",
        "date": _moment(datetime.now(timezone.utc).isoformat()),
        "commands": [*commands, _as_typed(command)],
        "versions": [(key, ", ".join(sorted(values))) for key, values in versions.items()],
        "varied": [(key, _values(rows[key])) for key in ("method", "env", *study.varied)],
        "shared": [(key, _values(rows[key])) for key in shared],
    }


def _moment(text: str) -> str:
    """Such as `2026-11-23 03:45 UTC`."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    except ValueError:  # edited by hand
        return text


def _as_typed(command: str) -> str:
    """`train -m ...` as a user types it."""
    name, _, rest = command.partition(" ")
    return f"python scripts/{name}.py {rest}".strip()


def _values(column: pd.Series) -> str:
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in column.dropna().drop_duplicates()]
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return ", ".join(values[:MOST_VALUES]) + more
