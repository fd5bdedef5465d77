"""Every figure that a study may have, in the order of a page. A new one is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable

from alignsim.analysis.study import Study
from alignsim.report.figures import comparison, complexity, curves, frontier, map, profiles, ranking, regret, search
from alignsim.report.figures.style import Drawing

#: Each draws what a study shows of its subject: nothing, one figure or several.
CHARTS: list[Callable[[Study], list[Drawing]]] = [
    search.draw,
    ranking.draw,
    comparison.draw,
    complexity.draw,
    map.draw,
    regret.draw,
    curves.draw,
    frontier.draw,
    profiles.draw,
]
