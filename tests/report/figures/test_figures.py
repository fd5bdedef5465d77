"""Figures as a reader sees them: nothing overlaps, nothing is cut off, the numbers are those of the study."""

import dataclasses
import functools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from alignsim.analysis.load import load_histories
from alignsim.analysis.statistics import mean_interval
from alignsim.analysis.study import COMPLEXITY_KEY, RUN, Study
from alignsim.report.figures import comparison, complexity, curves, frontier, map, profiles, ranking, regret
from alignsim.report.figures import search as search_figure
from alignsim.report.figures.charts import CHARTS
from alignsim.report.figures.scales import is_logarithmic
from alignsim.report.figures.style import save, series_styles, use_house_style
from tests.analysis.test_study import rows, study, two_by_two

pytestmark = pytest.mark.usefixtures("few_resamples")


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
    table["optimal_value"], table["reference_value"] = 2.5, 0.5
    table["regret"] = 2 - 2 * table.normalized_value
    part = table.regret * (table[COMPLEXITY_KEY] - 1.5) / 4 if COMPLEXITY_KEY in table else 0.1
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


def many_methods(n=19, worst=-0.3, seeds=range(16)):
    """Methods whose values differ with the gap and hardly without; the last one is worse than doing nothing."""
    names = ["dpo", "rlhf", *(f"another_method_{i:02d}" for i in range(2, n))]
    values = [*np.linspace(0.95, 0.1, n - 1), worst]
    return [
        rows(name, env, v, seeds, env__complexity_factor=factor, method__policy_fit__learning_rate=0.001 + k % 3 / 1000)
        for env, factor, shrink in (("gap", 2.0, 1.0), ("no_gap", 1.0, 0.05))
        for k, (name, v) in enumerate(zip(names, [v * shrink + 0.9 * (1 - shrink) for v in values], strict=True))
    ]


def searched(methods=12, trials=10):
    """Trials of several settings of many methods, half of which have a second stage."""
    draw = np.random.default_rng(0)
    tables = []
    for i in range(methods):
        for trial in range(trials):
            own = {"method__policy_fit__learning_rate": 10 ** draw.uniform(-4, -2)}
            own["method__policy_fit__steps"] = int(draw.integers(1000, 4000))
            own |= {"method__rl__learning_rate": 10 ** draw.uniform(-4, -2)} if i % 2 else {}
            value = -3 if trial == 3 else 0.9 - 0.03 * i - 0.05 * trial
            for env, factor in (("gap", 2.0), ("no_gap", 1.0)):
                tables.append(rows(f"method_{i:02d}", env, value, range(8), env__complexity_factor=factor, **own))
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
        *(t for n in range(4) for t in along([1 + i / 4 for i in range(12)], env__n_pairs=1000 * 2**n))
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
    "many methods": lambda: with_split(study(*many_methods())),
    "many methods, one lost": lambda: study(*many_methods(worst=-40.0)[:-2]),
    "many methods in four places": lambda: study(
        *many_methods(6), *(table.assign(env=f"{table.env[0]}_b", beta=0.1) for table in many_methods(6))
    ),
    "betas": betas,
    "a search over methods": searched,
    "a search over two methods": lambda: searched(2),
    "betas in two places": lambda: study(
        betas().rows.drop(columns=["setting", "variant"]),
        betas().rows.drop(columns=["setting", "variant"]).assign(**{COMPLEXITY_KEY: 3.0}),
    ),
}


@functools.cache
def drawn(name):
    """Every figure of one of these studies."""
    made = STUDIES[name]()
    return [drawing for chart in CHARTS for drawing in chart(made)]


def overlapping(figure):
    """Pairs of texts whose boxes overlap, and texts that leave the figure."""
    figure.draw_without_rendering()  # texts get the same boxes
    unseen = set()  # matplotlib keeps labels of ticks beyond the axes' limits and never draws them
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        unseen |= {label for tick in beyond for label in (tick.label1, tick.label2)}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen]
    boxes = [(t.get_text(), t.get_window_extent().shrunk(0.98, 0.9)) for t in texts]
    ends = np.array([box.extents for _, box in boxes])
    meet = (ends[:, None, :2] < ends[None, :, 2:]).all(-1)
    pairs = [(boxes[i][0], boxes[j][0]) for i, j in np.argwhere(meet & meet.T) if i < j]
    outside = [a for a, x in boxes if x.x0 < 0 or x.y0 < 0 or x.x1 > figure.bbox.x1 or x.y1 > figure.bbox.y1]
    return pairs, outside


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_overlaps_or_is_cut_off(name):
    for drawing in drawn(name):
        assert overlapping(drawing.figure) == ([], []), drawing.name


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_has_a_file_of_its_own_and_says_something(name):
    found = drawn(name)
    assert len({drawing.name for drawing in found}) == len(found)
    for drawing in found:
        assert re.fullmatch(r"[\w-]+", drawing.name)
        assert drawing.heading
        assert drawing.reading.endswith(".")
        assert "nan" not in drawing.says
        assert re.sub(r"[\s;.]", "", drawing.figure.get_suptitle()) == re.sub(r"[\s;.]", "", drawing.says)
        assert drawing.figure.get_size_inches()[0] <= 10.5, "letters would be too small on a page 1000 pixels wide"


DRAWN = {
    "gap and no gap": {"rlhf_vs_dpo_comparison", "regret_split", "performance_profiles"},
    "one method": {"rlhf_vs_dpo_comparison", "regret_split"},
    "a sweep": {"rlhf_vs_dpo_comparison", "value_by_complexity_factor", "regret_split", "performance_profiles"},
    "a number of one method": {
        "rlhf_vs_dpo_comparison", "value_by_learning_rate", "regret_split", "performance_profiles"
    },
    "a random search": {
        "rlhf_vs_dpo_comparison", "value_by_n_pairs", "value_by_beta", "regret_split", "performance_profiles"
    },
    "many methods": {"ranking", "rlhf_vs_dpo_comparison", "regret_split"},
    "betas in two places": {
        "rlhf_vs_dpo_comparison", "value_by_beta", "advantage_by_complexity_factor_and_beta", "regret_split",
        "reward_by_kl", "performance_profiles",
    },
    "no optimum known": set(),
    "a search over methods": {"tuning"},
    "a search over two methods": {
        "tuning", "value_by_policy_fit_learning_rate", "value_by_steps", "value_by_rl_learning_rate",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_follows_from_what_varied(name):
    assert {drawing.name for drawing in drawn(name)} == DRAWN[name]


def swapped(made):
    """The study with its two methods in each other's place."""
    other = {"rlhf": "dpo", "dpo": "rlhf"}
    return dataclasses.replace(
        made, rows=made.rows.assign(method=made.rows.method.map(other), variant=made.rows.variant.map(other))
    )


@pytest.mark.parametrize("chart", [comparison, complexity, map], ids=lambda chart: chart.__name__)
def test_titles_turn_over_with_the_methods(chart):
    made = study(*along([1.0, 2.0, 3.0], beta=0.5), *along([1.0, 2.0, 3.0], beta=0.1))
    ahead, behind = chart.draw(made)[0].says, chart.draw(swapped(made))[0].says
    if chart is complexity:
        assert "lowest at complexity factor 1, beta 0.1: +0.050" in ahead
        assert "lowest at complexity factor 3, beta 0.1: -0.250" in behind
    else:
        assert "RLHF is ahead of DPO in all 6 settings" in ahead
        assert "RLHF against DPO in 6 settings: behind in 6" in behind


def test_the_comparison_shows_every_seed_and_the_advantage():
    made = two_by_two()
    axes = comparison.draw(made)[0].figure.axes[0]
    dots = sum(len(collection.get_offsets()) for collection in axes.collections if len(collection.get_offsets()) > 1)
    assert dots == len(made.rows)
    written = [t.get_text() for t in axes.texts]
    assert any("+0.300 [0.300" in t for t in written)
    assert any("optimum" in t for t in written)


def test_many_settings_stand_in_rows_and_too_many_are_not_drawn():
    made = STUDIES["a hundred settings"]()
    axes = comparison.draw(made)[0].figure.axes[0]
    assert len(axes.get_yticklabels()) == 100
    assert axes.get_yticklabels()[0].get_text() == "gap, complexity factor 1"
    assert next(t.get_text() for t in axes.texts).startswith("+0.050 [0.050")
    assert comparison.draw(study(*along([1 + i / 100 for i in range(201)], seeds=range(2)))) == []


def test_a_ranking_orders_methods_by_value():
    """Each has a row with its mean and its interval."""
    made = STUDIES["many methods"]()
    (drawing,) = ranking.draw(made)
    means = made.rows[made.rows.env == "gap"].groupby("method").normalized_value.mean().sort_values(ascending=False)
    no_gap, gap = drawing.figure.axes
    assert [label.get_text() for label in no_gap.get_yticklabels()][:3] == ["DPO", "RLHF", "another_method_02"]
    assert [label.get_text() for label in no_gap.get_yticklabels()][2:] == list(means.index[2:])
    written = [text.get_text() for text in gap.texts]
    assert written[:2] == ["reference\npolicy", "optimum"]
    assert written[2:] == [f"{mean:.3f}" for mean in means]
    expected = mean_interval(made.rows[(made.rows.env == "gap") & (made.rows.method == "rlhf")].normalized_value)
    assert any(list(line.get_xdata()) == pytest.approx([expected.low, expected.high]) for line in gap.lines)


def test_long_names_that_differ_only_at_their_end_differ():
    made = study(*(rows("dpo", f"{'a_long_name_' * 8}{i}", 0.5, seeds=range(2)) for i in range(20)))
    names = [label.get_text() for label in comparison.draw(made)[0].figure.axes[0].get_yticklabels()]
    assert len(set(names)) == 20


def test_a_mean_that_rounds_to_0_is_written_without_a_sign():
    made = study(*(rows(f"m{i}", "gap", 0).assign(normalized_value=-0.0002) for i in range(4)))
    (drawing,) = ranking.draw(made)
    assert "0.000" in [text.get_text() for text in drawing.figure.axes[0].texts]
    assert "-0.000" not in drawing.says


def test_a_method_far_below_the_reference_policy_is_an_arrow():
    """It leaves room for the others."""
    made = STUDIES["many methods, one lost"]()
    gap = ranking.draw(made)[0].figure.axes[1]
    assert -0.7 < gap.get_xlim()[0] < ranking.FLOOR
    assert [line.get_marker() for line in gap.lines].count("<") == 1
    assert "-40.011" in [text.get_text() for text in gap.texts]


def test_three_methods_are_compared_and_not_ranked():
    assert ranking.draw(study(*many_methods(3))) == []
    assert len(ranking.draw(study(*many_methods(4)))) == 1


@pytest.mark.parametrize("methods", [2, 8])
def test_settings_of_its_own_do_not_rename_a_method(methods):
    made = study(*many_methods(methods))
    assert made.rows.groupby("method")["method.policy_fit.learning_rate"].first().nunique() > 1
    assert set(made.rows.variant) == set(made.rows.method)
    assert made.varied == [COMPLEXITY_KEY]


def test_every_trial_of_a_search_is_a_dot():
    """The best trial of each method is a mark."""
    drawing = search_figure.draw(searched())[0]
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["method_00", "method_01"]
    assert [len(collection.get_offsets()) for collection in axes.collections[:12]] == [9] * 12, "one is far below"
    assert "12 trials below -0.5" in drawing.figure.get_supxlabel()
    assert re.search(r"10 trials .*: method_00 with 0\.9", drawing.says)


def lines_of(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def test_a_condition_under_two_names_counts_once_along_a_sweep():
    twice = study(*along([1.0, 2.0, 3.0]), rows("dpo", "no_gap", 0.85, env__complexity_factor=1.0))
    line = lines_of(complexity.draw(twice)[0].figure.axes[0])[0]
    assert list(line.get_xdata()) == [1.0, 2.0, 3.0]
    once = lines_of(complexity.draw(study(*along([1.0, 2.0, 3.0])))[0].figure.axes[0])
    assert any(list(line.get_ydata()) == list(other.get_ydata()) for other in once)


def test_two_values_are_no_sweep():
    assert complexity.draw(two_by_two()) == []
    assert len(complexity.draw(study(*along([1.0, 2.0, 3.0])))) == 1


def test_bands_of_a_sweep_are_intervals_of_paired_differences():
    made = study(
        *(rows("rlhf", "gap", 0.9, env__complexity_factor=f) for f in (1.0, 2.0, 3.0)),
        *(rows("dpo", "other", 0.7, env__complexity_factor=f).assign(env="gap") for f in (1.0, 2.0, 3.0)),
    )
    below = complexity.draw(made)[0].figure.axes[1]
    by_seed = made.rows.pivot_table(index="seed", columns="method", values="normalized_value")
    expected = mean_interval(by_seed.rlhf - by_seed.dpo)
    assert lines_of(below)[0].get_ydata() == pytest.approx([expected.mean] * 3)
    heights = below.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((expected.low, expected.high))


def test_a_method_without_the_number_is_level_along_it():
    above, below = complexity.draw(STUDIES["a number of one method"]())[0].figure.axes
    assert len(lines_of(above)) == 1
    level = [line.get_ydata()[0] for line in above.lines if to_hex(line.get_color()) == "#d55e00"]
    assert level == pytest.approx([study(rows("dpo", "gap", 0.6)).rows.normalized_value.mean()])
    assert lines_of(below)[0].get_ydata() == pytest.approx([0.299, 0.297, 0.29, 0.27])


def test_axes_are_logarithmic_over_decades_and_for_equal_ratios():
    assert is_logarithmic([1000, 4000, 16000])
    assert is_logarithmic([0.05, 0.1, 0.2, 0.5, 1])
    assert not is_logarithmic([1, 1.5, 2, 3])
    assert not is_logarithmic([0, 1, 100])
    assert complexity.draw(STUDIES["betas"]())[0].figure.axes[0].get_xscale() == "linear", "1 / 0.1 is no two decades"


def test_the_tie_line_runs_between_ties_and_the_rest():
    made = study(
        *(
            rows(
                m,
                "gap",
                0.5 + (0.3 if m == "rlhf" and (f, beta) != (1.0, 0.1) else 0),
                env__complexity_factor=f,
                beta=beta,
            )
            for f in (1.0, 2.0, 3.0)
            for beta in (0.1, 0.5)
            for m in ("rlhf", "dpo")
        )
    )
    axes = map.draw(made)[0].figure.axes[0]
    edges = {tuple(np.ravel(line.get_xydata()).tolist()) for line in axes.lines}
    assert edges == {(1, 0, 1, 1), (0, 1, 1, 1)}, "around the cell at the lower left only"
    written = [t.get_text() for t in axes.texts]
    assert written.count("+0.300") == 5
    assert written.count("+0.000") == 1


def test_a_missing_setting_is_hatched_and_half_a_grid_no_map():
    axes = map.draw(STUDIES["a grid with a hole"]())[0].figure.axes[0]
    assert sum(collection.get_hatch() == "//" for collection in axes.collections) == 1
    assert map.draw(study(*along([1.0, 2.0, 3.0], beta=0.5), *along([1.0], beta=0.1), *along([2.0], beta=0.2))) == []


def test_regret_says_from_where_on_rl_itself_falls_short():
    made = with_split(study(*along([1.0, 1.25, 1.5, 2.0, 3.0])))
    assert "from complexity factor 2 on" in regret.draw(made)[0].says
    never = dataclasses.replace(made, rows=made.rows.assign(computational_regret=-made.rows.computational_regret.abs()))
    assert "nowhere" in regret.draw(never)[0].says
    small = made.rows.assign(computational_regret=-made.rows.computational_regret)
    assert "up to complexity factor 1.25" in regret.draw(dataclasses.replace(made, rows=small))[0].says
    no_parts = dataclasses.replace(made, rows=made.rows.assign(computational_regret=np.nan))
    assert regret.draw(no_parts) == []


def test_parts_of_the_regret_add_up_and_may_be_negative():
    made = with_split(study(*along([1.0, 1.25, 1.5, 2.0, 3.0])))
    found = [np.array(line.get_ydata()) for line in lines_of(regret.draw(made)[0].figure.axes[0])]
    totals = [
        y
        for y in found
        if y == pytest.approx(1 - made.rows.groupby(["method", COMPLEXITY_KEY]).normalized_value.mean()["rlhf"])
    ]
    assert len(found) == 4, "DPO's total, RLHF's total and two parts"
    assert any(total == pytest.approx(a + b) for total in totals for a in found for b in found if a is not b)
    assert min(y.min() for y in found) < 0


def test_regret_over_two_numbers_is_shown_setting_by_setting():
    made = STUDIES["a grid"]()
    axes = regret.draw(made)[0].figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == [
        "gap, complexity factor 1, beta 0.1",
        "gap, complexity factor 1, beta 0.5",
    ]


@pytest.mark.parametrize(("fall", "words"), [(0.5, ": more KL for less reward"), (-0.5, "the smallest beta")])
def test_over_optimization_is_falling_reward_at_rising_kl(fall, words):
    says = frontier.draw(betas(fall))[0].says
    assert says.count(words) == 2
    assert f"highest at beta {0.2 if fall > 0 else 0.1:g}" in says


def test_few_seeds_say_nothing_of_many_settings():
    kinds = ("a", "b", "c", "d", "e")
    made = with_split(study(*(rows(m, kind, 0.5, seeds=range(4)) for kind in kinds for m in ("rlhf", "dpo"))))
    assert regret.draw(made)[0].says.startswith("Too few seeds")
    table = betas().rows
    two = study(*(table[table.seed < 4].assign(env=kind) for kind in ("a", "b")))
    says = frontier.draw(two)[0].says
    assert says.count("too few seeds") == 2


def test_no_policy_is_above_the_gray_line():
    made = betas()
    axes = frontier.draw(made)[0].figure.axes[1]
    bound = next(line for line in axes.lines if line.get_color() == "0.5")
    means = made.rows.groupby("beta")[["optimal_value", "kl", "reward"]].mean()
    for kl, most in zip(*bound.get_data(), strict=True):
        assert most == pytest.approx((means.optimal_value + means.index * kl).min())
    assert (np.interp(means.kl, *bound.get_data()) > means.reward).all()


def test_profiles_count_the_runs_above_each_level():
    made = study(rows("rlhf", "gap", 0.9, seeds=range(8)), rows("dpo", "gap", 0.5, seeds=range(2, 10)))
    rlhf, dpo = lines_of(profiles.draw(made)[0].figure.axes[0])
    values = made.rows[(made.rows.method == "dpo") & made.rows.seed.between(2, 7)].normalized_value.to_numpy()
    assert dpo.get_ydata() == pytest.approx([(values > level).mean() for level in dpo.get_xdata()])
    assert (rlhf.get_ydata() >= dpo.get_ydata()).all()
    assert profiles.draw(study(rows("rlhf", "gap", 0.9), rows("dpo", "gap", 0.5, seeds=range(3)))) == []


def in_files(folder):
    """A study of two settings whose runs left training curves, one of them damaged."""
    steps = np.arange(0, 1000, 10)
    tables = []
    for factor in (1.0, 2.0):
        for method, stages in (("rlhf", ("reward_model", "rl")), ("dpo", ("dpo",))):
            table = rows(method, "gap", 0.8, seeds=range(8), env__complexity_factor=factor)
            tables.append(table.assign(**{RUN: f"{method}-{factor:g}"}))
            (run := folder / f"{method}-{factor:g}").mkdir()
            history = [
                pd.DataFrame(
                    {
                        "stage": stage,
                        "step": steps,
                        "seed": seed,
                        "validation_loss": np.nan if stage == "rl" else 0.7 - steps / 4000 + seed / 100,
                        "training_loss": np.nan if stage == "rl" else 0.7 - steps / 2000,
                        "normalized_value": np.nan if stage == "reward_model" else steps / 1000 + seed / 100,
                        "true_reward": np.nan if stage == "reward_model" else steps / 500,
                        "true_kl": np.nan if stage == "reward_model" else steps / 500,
                        "learned_reward": steps / 400 + seed / 100 if stage == "rl" else np.nan,
                    }
                )
                for stage in stages
                for seed in range(10)
            ]
            pd.concat(history).to_csv(run / "history.csv", index=False)
    (folder / "dpo-2" / "history.csv").write_bytes(b"\x89PNG\x00,\xff\n1")
    return dataclasses.replace(study(*tables), folder=folder)


def test_curves_are_of_seeds_that_count_and_damage_is_skipped(tmp_path):
    made = in_files(tmp_path)
    found = load_histories(made, ["rlhf-1", "dpo-2", "no such run"])
    assert set(found[RUN]) == {"rlhf-1"}
    assert set(found.seed) == set(range(8)), "no seed that diverged"
    assert made.varied == [COMPLEXITY_KEY], "the name of a folder is no condition"
    assert load_histories(two_by_two(), ["rlhf-1"]).empty


def test_a_curve_stays_where_its_seed_stopped():
    """Only at steps at which a measure was taken of any seed."""
    whole = pd.DataFrame({"step": [0, 25, 50], "loss": [3.0, 2, 1], "value": [0, np.nan, 1]})
    whole = whole.assign(run="a", stage="dpo", seed=0)
    stopped = whole[:2].assign(seed=1, loss=[5.0, 4])
    carried = curves._carried_on(pd.concat([whole, stopped])).set_index(["seed", "step"]).sort_index()
    assert carried.loc[1].loss.tolist() == [5, 4, 4]
    assert carried.loc[1].value.fillna(-1).tolist() == [0, -1, 0]
    assert carried.loc[0].value.fillna(-1).tolist() == [0, -1, 1]
    assert set(carried.run) == {"a"}
    assert set(carried.stage) == {"dpo"}


def test_learning_curves_have_bands(tmp_path):
    drawing = curves.draw(in_files(tmp_path))[0]
    assert overlapping(drawing.figure) == ([], [])
    grid = np.array(drawing.figure.axes[1:]).reshape(3, 2)
    assert [axes.get_title(loc="left") for axes in grid[0]] == ["gap\ncomplexity factor 1", "gap\ncomplexity factor 2"]
    assert len(lines_of(grid[0, 0])) == 4, "training and validation of both methods"
    assert len(lines_of(grid[0, 1])) == 2, "DPO's are damaged"
    learned, true = sorted(lines_of(grid[2, 0]), key=lambda line: line.get_linestyle(), reverse=True)[:2]
    assert len(true.get_xdata()) <= 60
    assert {learned.get_linestyle(), true.get_linestyle()} == {"-", "--"}
    assert all(len(axes.collections) for axes in grid.ravel())
    assert "Learned minus true reward at the end of training: +0.530" in drawing.says


def test_losses_of_different_kinds_are_shares_of_their_start(tmp_path):
    made = in_files(tmp_path)
    assert "mean over pairs" in curves.draw(made)[0].figure.axes[1].get_ylabel()
    for file in tmp_path.glob("rlhf-*/history.csv"):
        history = pd.read_csv(file)
        history[["validation_loss", "training_loss"]] *= 100
        history.to_csv(file, index=False)
    axes = curves.draw(made)[0].figure.axes[1]
    assert "over that at the start" in axes.get_ylabel()
    assert {line.get_ydata()[0] for line in lines_of(axes) if line.get_linestyle() == "-"} == {1.0}


def test_both_rewards_are_compared_at_the_same_step(tmp_path):
    made = in_files(tmp_path)
    for file in tmp_path.glob("rlhf-*/history.csv"):
        history = pd.read_csv(file)
        history.loc[history.step > 400, "true_reward"] = np.nan
        history.to_csv(file, index=False)
    assert "end of training: +0.235" in curves.draw(made)[0].says  # 400 / 400 + 0.035 - 400 / 500
    for file in tmp_path.glob("rlhf-*/history.csv"):
        history = pd.read_csv(file)
        history.loc[history.step == 0, "learned_reward"] = np.nan
        history.loc[history.step > 0, "true_reward"] = np.nan
        history.to_csv(file, index=False)
    assert "Learned minus" not in curves.draw(made)[0].says


def test_the_reward_of_an_oracle_is_not_drawn_as_a_learned_one(tmp_path):
    made = in_files(tmp_path)
    for file in tmp_path.glob("rlhf-*/history.csv"):
        history = pd.read_csv(file)
        history[history.stage == "rl"].to_csv(file, index=False)
    drawing = curves.draw(made)[0]
    assert "Learned" not in drawing.says
    assert [line.get_linestyle() for line in lines_of(drawing.figure.axes[-1])] == ["-"]


def test_without_training_curves_there_is_no_such_figure(tmp_path):
    made = dataclasses.replace(in_files(tmp_path), folder=tmp_path / "elsewhere")
    assert curves.draw(made) == []
    assert comparison.draw(made)


def test_a_method_has_the_same_look_everywhere():
    for name in ("gap and no gap", "a hundred settings", "a random search of one method", "betas"):
        found = series_styles(STUDIES[name]().rows)
        firsts = {variant.partition("\n")[0]: look for variant, look in reversed(found.items())}
        assert (firsts["rlhf"].color, firsts["dpo"].color) == ("#0072B2", "#D55E00")
        assert len({look.marker for look in firsts.values()}) == len(firsts)


def test_figures_are_saved_whole_as_png_and_svg(tmp_path):
    drawing = comparison.draw(STUDIES["markup"]())[0]
    png, svg = save(drawing.figure, tmp_path / drawing.name)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in svg.read_text(encoding="utf-8")
