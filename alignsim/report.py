"""What `scripts/plot.py` makes of a study: `summary.csv`, the figures, and the summary on the screen."""

from __future__ import annotations

import sys
from pathlib import Path

from alignsim.results.files import write_whole
from alignsim.study import Study, load_study
from alignsim.summary import summary, summary_text

#: A study of more settings is summarised, but not drawn.
MOST_SETTINGS = 60

#: How much of a summary is shown.
ROWS_ON_SCREEN = 200


def report(folder: Path) -> bool:
    """Draw and summarise every finished condition below a study's folder.

    Returns:
        Whether there was anything to draw. What was left out, and why, is said on stderr.
    """
    study = load_study(folder)
    for complaint in study.complaints:
        print(f"warning: {complaint}", file=sys.stderr)
    if study.rows.empty:
        print(f"{folder}: no finished results to draw", file=sys.stderr)
        return False
    table = summary(study)
    write_whole({folder / "summary.csv": lambda path: table.to_csv(path, index=False)})
    print(summary_text(table.head(ROWS_ON_SCREEN)))
    if len(table) > ROWS_ON_SCREEN:
        print(f"... and {len(table) - ROWS_ON_SCREEN} rows more in summary.csv")
    settings = study.rows.setting.nunique()
    if settings > MOST_SETTINGS:
        print(f"warning: {settings} settings are too many for a figure (at most {MOST_SETTINGS})", file=sys.stderr)
    known = study.rows.normalized_value.notna().any()
    if not known:
        print("warning: no optimum is known, so there is no normalized value to draw", file=sys.stderr)
    figures = _draw(study, folder) if settings <= MOST_SETTINGS and known else []
    print("\n".join(f"  {path}" for path in [folder / "summary.csv", *figures]))
    return True


def _draw(study: Study, folder: Path) -> list[Path]:
    """Every figure that the study has something to show in."""
    from alignsim.plots.comparison import draw_comparison
    from alignsim.plots.complexity import draw_complexity, sweeps_complexity
    from alignsim.plots.style import save, use_house_style

    use_house_style()
    written = save(draw_comparison(study), folder / "rlhf_vs_dpo_comparison")
    if sweeps_complexity(study):
        written += save(draw_complexity(study), folder / "value_by_complexity_factor")
    return written
