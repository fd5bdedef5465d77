"""Studies as tables: names of settings and variants, paired differences, the summary, titles."""

import numpy as np
import pandas as pd
import pytest

from alignsim.analysis.statistics import mean_interval
from alignsim.analysis.study import Study, name_settings_and_variants, paired_differences
from alignsim.analysis.summary import summarize
from alignsim.evaluation.measures import MEASURES
from alignsim.report.figures.style import headline, signed
from alignsim.report.terminal import summary_table
from alignsim.runs.storage.versions import RESULTS_VERSION


def rows(method, env, value, seeds=range(16), **condition):
    """Rows as in results.csv, all measures the same but the reference policy's value, which is 0."""
    noise = np.random.default_rng(len(env)).normal(0, 0.05, 100)  # shared by the methods, as paired seeds share it
    table = pd.DataFrame({"method": method, "env": env, "seed": list(seeds)})
    for measure in MEASURES:
        table[measure] = [value + noise[seed] for seed in seeds]
    table["reference_value"] = 0.0
    values = {key.replace("__", "."): v for key, v in condition.items()}
    return table.assign(**values, condition=f"{method} {env} {sorted(values.items())}", code=str(RESULTS_VERSION))


def study(*tables):
    return Study("test", name_settings_and_variants(pd.concat(tables, ignore_index=True)), [])


GAP, NO_GAP = {"env__complexity_factor": 2.0}, {"env__complexity_factor": 1.0}


def two_by_two(rlhf=0.9, dpo=0.6):
    return study(
        rows("rlhf", "gap", rlhf, **GAP, method__rl__steps=10),
        rows("dpo", "gap", dpo, seeds=range(4, 20), **GAP),
        rows("rlhf", "no_gap", 0.9, **NO_GAP, method__rl__steps=10),
        rows("dpo", "no_gap", 0.9, **NO_GAP),
    )


def test_differences_are_paired_by_seed_and_setting():
    differences = paired_differences(two_by_two(), "rlhf", "dpo")
    gap = differences[differences.env == "gap"]
    assert list(gap.seed) == list(range(4, 16)), "the seeds that both have"
    assert np.allclose(gap.normalized_value, 0.3)
    assert np.allclose(differences[differences.env == "no_gap"].normalized_value, 0)


def test_networks_of_different_classes_are_named_by_class():
    """Sizes, which differ with the class, are not named."""
    made = {"model__policy___target_": "alignsim.models.made.MADE", "model__policy__hidden_dim": 64.0}
    linear = {"model__policy___target_": "alignsim.models.linear.Linear"}
    wide = made | {"model__policy__hidden_dim": 128.0}
    tables = [rows(method, "gap", 0.9, **GAP, **model) for method in ("rlhf", "dpo") for model in (made, linear)]
    found = study(*tables)
    assert found.varied == found.shared == ["model.policy._target_"]
    assert set(found.rows.setting) == {f"gap\npolicy {name}" for name in ("MADE", "Linear")}
    assert len(paired_differences(found, "rlhf", "dpo")) == 32
    headings, *lines = summary_table(summarize(found)).splitlines()
    assert "model.policy" in headings.split()
    assert {line.split()[2] for line in lines if line.startswith("dpo")} == {"Linear", "MADE"}
    wider = study(*tables, *(rows(method, "gap", 0.9, **GAP, **wide) for method in ("rlhf", "dpo")))
    assert {setting.partition("policy ")[2] for setting in wider.rows.setting} == {
        "MADE\npolicy.hidden_dim 64",
        "MADE\npolicy.hidden_dim 128",
        "Linear",
    }
    assert study(*tables[:2]).varied == ["model.policy._target_"]


def test_settings_and_variants_are_named_by_what_varied():
    found = study(
        rows("rlhf", "gap", 0.8, **GAP, method__rl__steps=10, beta=0.5),
        rows("rlhf", "gap", 0.9, **GAP, method__rl__steps=20, beta=0.5),
        rows("dpo", "gap", 0.6, **GAP, beta=0.5),
        rows("dpo", "gap", 0.6, **GAP, beta=1.0),
        rows("rlhf", "my gap", 0.9, env__complexity_factor=3.0, method__rl__steps=20, beta=0.5),
    )
    assert found.varied == ["env.complexity_factor", "method.rl.steps", "beta"]
    assert found.shared == ["env.complexity_factor", "beta"]
    assert set(found.rows.variant) == {"rlhf\nrl.steps 10", "rlhf\nrl.steps 20", "dpo"}
    assert set(found.rows.setting) == {
        "gap\ncomplexity factor 2\nbeta 0.5",
        "gap\ncomplexity factor 2\nbeta 1",
        "my gap\ncomplexity factor 3",
    }
    assert found.comparisons == [("rlhf\nrl.steps 10", "dpo"), ("rlhf\nrl.steps 20", "dpo")]
    assert np.allclose(paired_differences(found, "rlhf\nrl.steps 20", "dpo").normalized_value, 0.3)


def test_the_summary_has_a_row_per_condition_and_difference():
    table = summarize(two_by_two()).set_index(["method", "env"])
    assert len(table) == 6
    assert table.loc[("rlhf - dpo", "gap"), "normalized_value"] == pytest.approx(0.3)
    assert table.loc[("rlhf - dpo", "gap"), "seeds"] == 12
    ours = table.loc[("dpo", "no_gap")]
    expected = mean_interval(rows("dpo", "no_gap", 0.9).regret)
    assert (ours.regret, ours.regret_low, ours.regret_high) == pytest.approx(expected[:3])


@pytest.mark.parametrize("swap", [False, True])
def test_the_headline_follows_the_numbers(swap):
    """It turns over with them. Its words are the fact here."""
    differences = np.random.default_rng(0).normal(0.3, 0.05, 16) * (-1 if swap else 1)
    ahead, tie = mean_interval(differences), mean_interval(differences - differences.mean())
    unclear = mean_interval(3 * (differences - differences.mean()))
    assert ahead.lead == (-1 if swap else 1)
    assert tie.lead == 0
    said = headline("rlhf", "dpo", {"gap": ahead, "no_gap": tie, "other": unclear}).splitlines()
    first, second = ("DPO", "RLHF") if swap else ("RLHF", "DPO")
    assert said == [
        f"gap: {first} is ahead of {second} by {abs(ahead.mean):.3f}",
        "no_gap: RLHF and DPO are within 0.05 of each other",
        "other: no difference between RLHF and DPO detected",
    ]
    way = "behind" if swap else "ahead"
    many = headline("rlhf", "dpo", {"a": ahead, "b": tie, "c": unclear, "d": mean_interval([0.1])})
    assert many == (
        f"RLHF against DPO in 4 settings: {way} in 1, within 0.05 in 1, no difference detected in 1, too few seeds in 1"
    )
    assert signed(ahead).startswith("-0.287 [-0.3" if swap else "+0.287 [0.2")


def test_few_seeds_conclude_nothing():
    assert "no conclusion" in headline("rlhf", "dpo", {"gap": mean_interval([0.7])})
    assert "7 seeds are too few" in headline("rlhf", "dpo", {"gap": mean_interval([0.7, 0.8] * 3 + [0.7])})
    assert "one seed" in signed(mean_interval([0.7]))


def test_diverged_seeds_are_counted_and_in_no_mean():
    named = name_settings_and_variants(
        pd.concat(
            [rows("rlhf", "gap", 0.9, **GAP), rows("dpo", "gap", 0.6, **GAP), rows("dpo", "gap", 9.0, [20, 21], **GAP)],
            ignore_index=True,
        )
    )
    bad = named.seed >= 20
    found = Study("test", named[~bad], [], named[bad])
    table = summarize(found).set_index("method")
    assert list(table.loc["dpo", ["seeds", "diverged"]]) == [16, 2]
    assert list(table.loc["rlhf", ["seeds", "diverged"]]) == [16, 0]
    assert list(table.loc["rlhf - dpo", ["seeds", "diverged"]]) == [16, 2]
    assert table.loc["dpo", "value"] < 1, "9.0 is in no mean"
    assert "2 seeds of dpo in gap" in found.left_out


def test_diverged_seeds_of_a_baseline_count_in_its_differences():
    named = name_settings_and_variants(
        pd.concat(
            [
                rows("rlhf", "gap", 0.9, **GAP, method__rl__steps=10),
                rows("rlhf", "gap", 0.8, **GAP, method__rl__steps=20),
                rows("dpo", "gap", 0.6, **GAP),
                rows("dpo", "gap", 9.0, [20], **GAP),
            ],
            ignore_index=True,
        )
    )
    table = summarize(Study("test", named[named.seed < 20], [], named[named.seed == 20]))
    differences = table[table.method.str.contains(" - ")]
    assert list(differences.seeds) == [16, 16]
    assert list(differences.diverged) == [1, 1]


def test_the_summary_is_the_interval_of_each_group():
    found = two_by_two()
    table = summarize(found)
    for _, row in table[table.method == "dpo"].iterrows():
        members = found.rows[(found.rows.method == "dpo") & (found.rows.env == row.env)]
        expected = mean_interval(members.regret)
        assert np.allclose([row.regret, row.regret_low, row.regret_high, row.seeds], expected)
