"""What `scripts/plot.py` makes of a study: the summary, the verdicts, the figures and the page.

What is computed is in `alignsim.analysis`; what is printed as a table, in `alignsim.report.terminal`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alignsim.analysis.claims.preregistration import load_preregistration
from alignsim.analysis.claims.text import typed_command
from alignsim.analysis.claims.verdicts import judge, verdicts_json
from alignsim.analysis.load import load_study
from alignsim.analysis.search import trials, tuned_yaml
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY, summarize
from alignsim.config.problems import ConfigurationError, Problem
from alignsim.config.settings import BASELINE
from alignsim.report.terminal import best_trials_table, summary_table, verdict_table
from alignsim.runs.storage.atomic import clear_leftovers, write_atomically
from alignsim.runs.storage.lock import study_lock

if TYPE_CHECKING:
    from alignsim.report.figures.style import Drawing

SUMMARY, VERDICTS, PAGE = "summary.csv", "verdicts.json", "report.html"
TRIALS, TUNED = "tuning.csv", "tuned.yaml"


def report_study(folder: Path, command: str, baseline: str) -> bool:
    """Summarizes, judges and draws every finished condition below a study's folder.

    Args:
        folder: the study's folder.
        command: what the user typed.
        baseline: the method with which every other one is compared.

    Returns:
        Whether there was anything to draw. What was left out, and why, is printed to stderr.

    Raises:
        ConfigurationError: the study has no method named `baseline`. A study may lack the default baseline; then
            nothing is compared.
    """
    with study_lock(folder):
        clear_leftovers(folder)
        study = load_study(folder, baseline)
        _check_baseline(study)
        for warning in study.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if study.rows.empty:
            reason = "every seed diverged" if len(study.diverged) else "there are no finished results"
            print(f"{folder}: nothing to draw: {reason}", file=sys.stderr)
            return False
        _report(study, folder, command)
        return True


def _check_baseline(study: Study) -> None:
    methods = _methods(study)
    if methods and study.baseline not in (BASELINE, *methods):
        message = f"must be one of the study's methods: {', '.join(methods)}"
        raise ConfigurationError([Problem("baseline", study.baseline, message)])


def _methods(study: Study) -> list[str]:
    return sorted(study.all_rows.method.unique())


def _report(study: Study, folder: Path, command: str) -> None:
    """Write every file of a study that has rows, and print what is in them."""
    preregistration = load_preregistration(folder)
    table, verdicts = summarize(study), judge(study, preregistration)
    judged = verdicts_json(study, preregistration, verdicts)
    write_atomically({folder / SUMMARY: lambda path: table.to_csv(path, index=False), folder / VERDICTS: _text(judged)})
    trial_files = _report_search(study, folder, preregistration.command)
    if not trial_files:
        print(summary_table(table))
        _explain_missing_baseline(study)
    if verdicts:
        print(f"\n{verdict_table(verdicts)}\n")
    if not study.rows[PRIMARY].notna().any():
        print("warning: no optimum is known, so there is no normalized value to draw", file=sys.stderr)
    drawings = _draw(study, folder)
    from alignsim.report.page.render import render

    write_atomically({folder / PAGE: _text(render(study, preregistration, verdicts, table, drawings, command))})
    figures = [path for paths in drawings.values() for path in paths]
    _print_files(folder, [folder / PAGE, folder / VERDICTS, folder / SUMMARY, *trial_files, *figures])


def _text(content: str) -> Callable[[Path], object]:
    """A function that writes a text to a path, for `write_atomically`."""
    return lambda path: path.write_text(content, encoding="utf-8")


def _explain_missing_baseline(study: Study) -> None:
    methods = _methods(study)
    if study.baseline not in methods and len(methods) > 1:
        choices = ", ".join(methods)
        print(f"nothing is compared: there is no {study.baseline} here; baseline=NAME takes one of {choices}")


def _report_search(study: Study, folder: Path, command: str) -> list[Path]:
    """Write and print which settings suit each method best; returns the files, none where the study is no search."""
    table = trials(study)
    if table.empty:
        return []
    tuned = tuned_yaml(study, table, typed_command(command) if command else "")
    write_atomically({folder / TRIALS: lambda path: table.to_csv(path, index=False), folder / TUNED: _text(tuned)})
    print(f"the best trial of each method; {TRIALS} has all trials:\n{best_trials_table(table)}\n")
    return [folder / TUNED, folder / TRIALS]


def _draw(study: Study, folder: Path) -> dict[Drawing, list[Path]]:
    """Draw every figure that the study has something to show in; returns the files that each was saved to."""
    from alignsim.report.figures.charts import CHARTS
    from alignsim.report.figures.style import save, use_house_style

    use_house_style()
    drawings = [drawing for chart in CHARTS for drawing in chart(study)]
    return {drawing: save(drawing.figure, folder / drawing.name) for drawing in drawings}


def _print_files(folder: Path, paths: list[Path]) -> None:
    print("\n".join(f"  {path}" for path in paths))
    if others := sorted({path.name for path in folder.glob("*.png")} - {path.name for path in paths}):
        print(f"other figures in this folder, which this command did not draw: {', '.join(others)}")
