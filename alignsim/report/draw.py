"""What `scripts/plot.py` makes of a study: the summary, the verdicts, the figures and the page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alignsim.analysis.claims.preregistration import registry_of
from alignsim.analysis.claims.text import as_typed
from alignsim.analysis.claims.verdicts import judge, verdicts_text
from alignsim.analysis.load import load_study
from alignsim.analysis.search import trials, tuned_yaml, tuning_text
from alignsim.analysis.study import Study
from alignsim.analysis.summary import summary, summary_text, verdicts_shown
from alignsim.config.problems import ConfigurationError, Problem
from alignsim.config.settings import BASELINE
from alignsim.runs.storage.atomic import clear_leftovers, write_atomically
from alignsim.runs.storage.lock import study_lock

if TYPE_CHECKING:
    from alignsim.report.figures.style import Drawing

#: How much of a summary is shown.
ROWS_ON_SCREEN = 200

SUMMARY, VERDICTS, PAGE = "summary.csv", "verdicts.json", "report.html"
TRIALS, TUNED = "tuning.csv", "tuned.yaml"


def report(folder: Path, command: str, baseline: str) -> bool:
    """Summarize, judge and draw every finished condition below a study's folder.

    Args:
        folder: of the study.
        command: what the user typed.
        baseline: the method that every other one is compared with.

    Returns:
        Whether there was anything to draw. What was left out, and why, is said on stderr.

    Raises:
        ConfigurationError: the study has no method of the baseline's name. It may lack `BASELINE`: then nothing is
            compared.
    """
    with study_lock(folder):
        clear_leftovers(folder)
        return _report(folder, command, baseline)


def _report(folder: Path, command: str, baseline: str) -> bool:
    registry = registry_of(folder)
    study = load_study(folder, baseline)
    methods = sorted(study.all_rows.method.unique())
    if methods and baseline not in (BASELINE, *methods):
        raise ConfigurationError([Problem("baseline", baseline, f"must be one of the study's: {', '.join(methods)}")])
    for complaint in study.warnings:
        print(f"warning: {complaint}", file=sys.stderr)
    if study.rows.empty:
        told = "every seed diverged, there is nothing to draw" if len(study.diverged) else "no finished results to draw"
        print(f"{folder}: {told}", file=sys.stderr)
        return False
    table, verdicts = summary(study), judge(study, registry)
    judged = verdicts_text(study, registry, verdicts)
    write_atomically(
        {
            folder / SUMMARY: lambda path: table.to_csv(path, index=False),
            folder / VERDICTS: lambda path: path.write_text(judged, encoding="utf-8"),
        }
    )
    searched = _report_search(study, folder, registry.command)
    if not searched:
        print(summary_text(table.head(ROWS_ON_SCREEN)))
    if len(table) > ROWS_ON_SCREEN and not searched:
        print(f"... and {len(table) - ROWS_ON_SCREEN} rows more in {SUMMARY}")
    if baseline not in methods and len(methods) > 1 and not searched:
        print(f"nothing is compared: there is no {baseline} here; baseline=NAME takes one of {', '.join(methods)}")
    if verdicts:
        print(f"\n{verdicts_shown(verdicts)}\n")
    if not study.rows.normalized_value.notna().any():
        print("warning: no optimum is known, so there is no normalized value to draw", file=sys.stderr)
    drawings = _draw(study, folder)
    from alignsim.report.page.render import render

    page = render(study, registry, verdicts, table, drawings, command)
    write_atomically({folder / PAGE: lambda path: path.write_text(page, encoding="utf-8")})
    figures = [path for _, paths in drawings for path in paths]
    print("\n".join(f"  {path}" for path in [folder / PAGE, folder / VERDICTS, folder / SUMMARY, *searched, *figures]))
    if others := sorted({path.name for path in folder.glob("*.png")} - {path.name for path in figures}):
        print(f"not drawn by this command, but there: {', '.join(others)}")
    return True


def _report_search(study: Study, folder: Path, command: str) -> list[Path]:
    """Say which settings suit each method best, where the study searched for them, and write that down."""
    table = trials(study)
    if table.empty:
        return []
    tuned = tuned_yaml(study, table, as_typed(command) if command else "")
    write_atomically(
        {
            folder / TRIALS: lambda path: table.to_csv(path, index=False),
            folder / TUNED: lambda path: path.write_text(tuned, encoding="utf-8"),
        }
    )
    print(f"the best trial of each method; {SUMMARY} has all:\n{tuning_text(table)}\n")
    return [folder / TUNED, folder / TRIALS]


def _draw(study: Study, folder: Path) -> list[tuple[Drawing, list[Path]]]:
    """Every figure that the study has something to show in, with the files it was saved to."""
    from alignsim.report.figures.registry import CHARTS
    from alignsim.report.figures.style import save, use_house_style

    use_house_style()
    drawings = (drawing for chart in CHARTS for drawing in chart(study))
    return [(drawing, save(drawing.figure, folder / drawing.name)) for drawing in drawings]
