"""Every figure that a study may have, in the order of its page. A new figure is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable

from alignsim.analysis.study import Study
from alignsim.report.figures import comparison, complexity, curves, frontier, map, profiles, ranking, regret, search
from alignsim.report.figures.style import Drawing

#: Each function draws what a study shows about one subject: no figure, one or several.
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
