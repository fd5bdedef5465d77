"""Every figure that a study may have, in the order of a page. A new one is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable

from alignsim.plots import comparison, curves, frontier, map, profiles, ranking, regret, sweep, tuning
from alignsim.plots.style import Drawing
from alignsim.study import Study

#: Each draws what a study shows of its subject: nothing, one figure or several.
CHARTS: list[Callable[[Study], list[Drawing]]] = [
    tuning.draw,
    ranking.draw,
    comparison.draw,
    sweep.draw,
    map.draw,
    regret.draw,
    curves.draw,
    frontier.draw,
    profiles.draw,
]
