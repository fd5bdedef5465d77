"""Figures as a reader sees them: nothing overlaps, nothing is cut off, the numbers are those of the study."""

import itertools

import pytest
from alignsim.plots.complexity import draw_complexity, sweeps_complexity
from matplotlib import pyplot as plt
from matplotlib.text import Text

from alignsim.plots.comparison import draw_comparison
from alignsim.plots.style import use_house_style
from alignsim.study import Study
from tests.test_study import rows, study, two_by_two


@pytest.fixture(autouse=True)
def _style():
    use_house_style()
    yield
    plt.close("all")


def sweep(factors, **more):
    return [
        rows(m, "gap", v - f / 10 * (m == "dpo"), env__complexity_factor=f, **more)
        for f in factors
        for m, v in (("rlhf", 0.9), ("dpo", 0.95))
    ]


def overlapping(figure):
    """Pairs of texts whose boxes overlap, and texts that leave the figure."""
    figure.canvas.draw()
    unseen = set()  # matplotlib keeps labels of ticks beyond the axes' limits and never draws them
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen]
    boxes = [(t.get_text(), t.get_window_extent().shrunk(0.98, 0.9)) for t in texts]
    pairs = [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]
    outside = [a for a, x in boxes if x.x0 < 0 or x.y0 < 0 or x.x1 > figure.bbox.x1 or x.y1 > figure.bbox.y1]
    return pairs, outside


STUDIES = {
    "gap and no gap": two_by_two,
    "one method": lambda: study(rows("dpo", "gap", 0.6, env__complexity_factor=2.0)),
    "one seed": lambda: study(*(rows(m, "gap", 0.6, seeds=[3], env__complexity_factor=2.0) for m in ("rlhf", "dpo"))),
    "a sweep": lambda: study(*sweep([1.0, 1.25, 1.5, 2.0, 3.0])),
    "a long sweep": lambda: study(*sweep([1 + i / 4 for i in range(14)])),
    "a grid": lambda: study(*sweep([1.0, 2.0, 3.0], beta=0.5), *sweep([1.0, 2.0, 3.0], beta=0.1)),
    "variants of one method": lambda: study(
        *(rows(m, "gap", 0.8, env__complexity_factor=2.0, model__reward__reads="content") for m in ("rlhf", "dpo")),
        *(rows(m, "no_gap", 0.8, env__complexity_factor=1.0, model__reward__reads="content") for m in ("rlhf", "dpo")),
        rows("rlhf", "gap", 0.6, env__complexity_factor=2.0, model__reward__reads="tokens"),
    ),
    "diverged seeds": lambda: Study("test", (named := two_by_two().rows)[named.seed > 6], [], named[named.seed <= 6]),
    "four variants": lambda: study(
        *sweep([1.0, 2.0]),
        rows("my_method", "gap", 0.5, env__complexity_factor=1.0),
        rows("rlhf_slow", "gap", -0.4, env__complexity_factor=2.0),
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_overlaps_or_is_cut_off(name):
    made = STUDIES[name]()
    figures = [draw_comparison(made)]
    if sweeps_complexity(made):
        figures.append(draw_complexity(made))
    for figure in figures:
        assert overlapping(figure) == ([], [])


def test_the_comparison_shows_every_seed_and_writes_the_advantage():
    made = two_by_two()
    axes = draw_comparison(made).axes[0]
    dots = sum(len(collection.get_offsets()) for collection in axes.collections if len(collection.get_offsets()) > 1)
    assert dots == len(made.rows)
    written = [t.get_text() for t in axes.texts]
    assert any("+0.300 [0.300" in t for t in written)
    assert any("optimum" in t for t in written)


def test_a_condition_under_two_names_counts_once_along_a_sweep():
    twice = study(*sweep([1.0, 2.0, 3.0]), rows("dpo", "no_gap", 0.85, env__complexity_factor=1.0))
    line = next(line for line in draw_complexity(twice).axes[0].lines if len(line.get_xdata()) == 3)
    assert list(line.get_xdata()) == [1.0, 2.0, 3.0]
    once = draw_complexity(study(*sweep([1.0, 2.0, 3.0]))).axes[0].lines
    assert any(list(line.get_ydata()) == list(other.get_ydata()) for other in once if len(other.get_xdata()) == 3)


def test_two_values_are_no_sweep():
    assert not sweeps_complexity(two_by_two())
    assert sweeps_complexity(study(*sweep([1.0, 2.0, 3.0])))
