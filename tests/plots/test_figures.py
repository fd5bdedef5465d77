"""Figures as a reader sees them: nothing overlaps, nothing is cut off, the numbers are those of the study."""

import dataclasses
import re

import numpy as np
import pytest
from matplotlib.text import Text

from alignsim.plots.charts import CHARTS
from alignsim.plots.style import use_house_style
from alignsim.study import Study
from tests.test_study import rows, study, two_by_two

KNOB = "env.complexity_factor"


@pytest.fixture(autouse=True)
def _style():
    use_house_style()


def along(factors, **more):
    return [
        rows(m, "gap", v - f / 10 * (m == "dpo"), env__complexity_factor=f, **more)
        for f in factors
        for m, v in (("rlhf", 0.9), ("dpo", 0.95))
    ]


def named(*names):
    """Both methods in environments of these names."""
    return study(*(rows(m, name, 0.6, env__complexity_factor=2.0) for name in names for m in ("rlhf", "dpo")))


def search(n, keys, methods=("rlhf", "dpo"), **more):
    """Draws of many numbers at once."""
    draws = np.exp(np.random.default_rng(0).uniform(-7, 1, (n, len(keys))))
    return [
        rows(method, "gap", 0.5 + draw[0] / 10, seeds=range(4), **dict(zip(keys, draw, strict=True)), **more)
        for draw in draws
        for method in methods
    ]


def with_split(made):
    """Regret whose computational part grows from below 0; DPO has no parts."""
    table = made.rows.copy()
    table["optimal_value"] = 2.0
    table["regret"] = 2 - 2 * table.normalized_value
    part = table.regret * (table[KNOB] - 1.5) / 4 if KNOB in table else 0.1
    table["computational_regret"] = np.where(table.method == "dpo", np.nan, part)
    table["statistical_regret"] = table.regret - table.computational_regret
    return dataclasses.replace(made, rows=table)


def betas(fall=0.5):
    """Policies whose KL grows as beta falls, and whose reward turns at beta 0.2."""
    tables = []
    for beta, kl in ((1.0, 0.5), (0.5, 1.5), (0.2, 3.0), (0.1, 4.0)):
        for method in ("rlhf", "dpo"):
            table = rows(method, "gap", 0.6, env__complexity_factor=2.0, beta=beta)
            reward = {1.0: 1.0, 0.5: 2.0, 0.2: 3.0, 0.1: 3.0 - fall}[beta]
            noise = table.value - 0.6
            tables.append(table.assign(kl=kl + noise, reward=reward + noise, optimal_value=4 - 2 * beta + noise))
    return study(*tables)


STUDIES = {
    "gap and no gap": two_by_two,
    "one method": lambda: study(rows("dpo", "gap", 0.6, env__complexity_factor=2.0)),
    "one seed": lambda: study(*(rows(m, "gap", 0.6, seeds=[3], env__complexity_factor=2.0) for m in ("rlhf", "dpo"))),
    "one seed along a sweep": lambda: with_split(study(*along([1.0, 2.0, 3.0], seeds=[3]))),
    "a sweep": lambda: with_split(study(*along([1.0, 1.25, 1.5, 2.0, 3.0]))),
    "a long sweep": lambda: with_split(study(*along([1 + i / 4 for i in range(14)]))),
    "a grid": lambda: with_split(study(*along([1.0, 2.0, 3.0], beta=0.5), *along([1.0, 2.0, 3.0], beta=0.1))),
    "a large grid": lambda: study(
        *(t for n in range(8) for t in along([1 + i / 4 for i in range(12)], env__n_pairs=1000 * 2**n))
    ),
    "a grid with a hole": lambda: study(*along([1.0, 2.0, 3.0], beta=0.5), *along([1.0, 2.0], beta=0.1)),
    "variants of one method": lambda: study(
        *(rows(m, "gap", 0.8, env__complexity_factor=2.0, model__reward__reads="content") for m in ("rlhf", "dpo")),
        *(rows(m, "no_gap", 0.8, env__complexity_factor=1.0, model__reward__reads="content") for m in ("rlhf", "dpo")),
        rows("rlhf", "gap", 0.6, env__complexity_factor=2.0, model__reward__reads="tokens"),
    ),
    "a number of one method": lambda: study(
        *(rows("rlhf", "gap", 0.9 - lr, method__rl__learning_rate=lr) for lr in (0.001, 0.003, 0.01, 0.03)),
        rows("dpo", "gap", 0.6),
    ),
    "diverged seeds": lambda: Study("test", (named := two_by_two().rows)[named.seed > 6], [], named[named.seed <= 6]),
    "four variants": lambda: study(
        *along([1.0, 2.0]),
        rows("my_method", "gap", 0.5, env__complexity_factor=1.0),
        rows("rlhf_slow", "gap", -0.4, env__complexity_factor=2.0),
    ),
    "a hundred settings": lambda: with_split(study(*along([1 + i / 25 for i in range(100)], seeds=range(4)))),
    "a random search": lambda: study(*search(20, ["env__n_pairs", "beta"])),
    "a random search of one method": lambda: study(
        *search(20, ["method__rl__learning_rate", "method__rl__weight_decay"], ["rlhf"]), rows("dpo", "gap", 0.6)
    ),
    "long names": lambda: with_split(named("an_environment_with_a_very_long_name_that_goes_on_" * 2, "short one")),
    "many long names": lambda: named(
        *(f"an_environment_with_a_very_long_name_that_goes_on_{i:02d}" for i in range(30))
    ),
    "markup": lambda: with_split(named("cost $5_2$ & <b>bold</b>", "100 % \\alpha ^2")),
    "negative values": lambda: study(
        *(
            rows(m, "gap", v, env__complexity_factor=f)
            for f in (1.0, 2.0, 4.0)
            for m, v in (("rlhf", -30.0), ("dpo", 0.4))
        )
    ),
    "no optimum known": lambda: dataclasses.replace(
        made := two_by_two(), rows=made.rows.assign(normalized_value=np.nan, optimal_value=np.nan, regret=np.nan)
    ),
    "betas": betas,
    "betas in two places": lambda: study(
        betas().rows.drop(columns=["setting", "variant"]),
        betas().rows.drop(columns=["setting", "variant"]).assign(**{KNOB: 3.0}),
    ),
}


def drawn(made):
    return [drawing for chart in CHARTS for drawing in chart(made)]


def overlapping(figure):
    """Pairs of texts whose boxes overlap, and texts that leave the figure."""
    figure.canvas.draw()
    unseen = set()  # matplotlib keeps labels of ticks beyond the axes' limits and never draws them
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen]
    boxes = [(t.get_text(), t.get_window_extent().shrunk(0.98, 0.9)) for t in texts]
    ends = np.array([box.extents for _, box in boxes])
    meet = (ends[:, None, :2] < ends[None, :, 2:]).all(-1)
    pairs = [(boxes[i][0], boxes[j][0]) for i, j in np.argwhere(meet & meet.T) if i < j]
    outside = [a for a, x in boxes if x.x0 < 0 or x.y0 < 0 or x.x1 > figure.bbox.x1 or x.y1 > figure.bbox.y1]
    return pairs, outside


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_overlaps_or_is_cut_off(name):
    for drawing in drawn(STUDIES[name]()):
        assert overlapping(drawing.figure) == ([], []), drawing.name


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_has_a_file_of_its_own_and_says_something(name):
    found = drawn(STUDIES[name]())
    assert len({drawing.name for drawing in found}) == len(found)
    for drawing in found:
        assert re.fullmatch(r"[\w-]+", drawing.name)
        assert drawing.heading
        assert drawing.reading.endswith(".")
        assert "nan" not in drawing.says
        title = re.sub(r"\s", "", drawing.figure.get_suptitle())
        assert (
            title == re.sub(r"\s", "", drawing.says).replace(";", "")[:-1]
            or title == re.sub(r"\s", "", drawing.says)[:-1]
        )
        widest = drawing.figure.get_size_inches()[0]
        assert widest <= 10.5, "letters would be too small on a page"
