"""What `scripts/plot.py` makes of a study: `summary.csv`, the figures, and the summary on the screen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alignsim.results import write_whole
from alignsim.study import Study, load_study
from alignsim.summary import summary, summary_text

if TYPE_CHECKING:
    from alignsim.plots.style import Drawing

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
    if not study.rows.normalized_value.notna().any():
        print("warning: no optimum is known, so there is no normalized value to draw", file=sys.stderr)
    figures = [path for _, paths in _draw(study, folder) for path in paths]
    print("\n".join(f"  {path}" for path in [folder / "summary.csv", *figures]))
    return True


def _draw(study: Study, folder: Path) -> list[tuple[Drawing, list[Path]]]:
    """Every figure that the study has something to show in, with the files it was saved to."""
    from alignsim.plots.charts import CHARTS
    from alignsim.plots.style import save, use_house_style

    use_house_style()
    drawings = (drawing for chart in CHARTS for drawing in chart(study))
    return [(drawing, save(drawing.figure, folder / drawing.name)) for drawing in drawings]
