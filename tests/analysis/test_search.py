"""The best trial of each method, from studies whose values are known."""

import dataclasses

import numpy as np
import pandas as pd
import yaml

from alignsim.analysis.search import best_trials, trials, tuned_yaml
from alignsim.analysis.study import Study
from alignsim.analysis.summary import PRIMARY
from alignsim.methods.dpo import DPO
from alignsim.report.terminal import best_trials_table
from tests.analysis.test_study import GAP, NO_GAP, rows, study, two_by_two
from tests.commands import TINY, run

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)


def searched(methods=("dpo", "rlhf"), seeds=range(8)):
    """Five trials of each method: one with rate 0.01 is best on the whole, 0.1 with the gap and 0.001 without."""
    tables = []
    for method in methods:
        for i, rate in enumerate(RATES):
            own = {"method__policy_fit__learning_rate": rate, "method__policy_fit__steps": 1000 + i}
            own |= {"method__rl__steps": 500 + i} if method == "rlhf" else {}
            with_gap, without = (0.5, 0.5) if rate == 1e-2 else (0.1 * i, 0.4 - 0.1 * i)
            tables += [
                rows(method, "gap", with_gap, seeds, **GAP, **own),
                rows(method, "no_gap", without, seeds, **NO_GAP, **own),
            ]
    return study(*tables)


def test_a_trial_counts_by_its_mean_over_environments():
    made = searched()
    table = trials(made)
    assert list(table.groupby("method").trials.first()) == [5, 5]
    chosen = best_trials(table).set_index("method")
    assert list(chosen["method.policy_fit.learning_rate"]) == [0.01, 0.01]
    dpo = made.rows[(made.rows.method == "dpo") & (made.rows["method.policy_fit.learning_rate"] == 0.01)]
    assert np.isclose(chosen.loc["dpo", PRIMARY], dpo[PRIMARY].mean())
    assert chosen.loc["dpo", f"{PRIMARY}_low"] < chosen.loc["dpo", PRIMARY] < chosen.loc["dpo", f"{PRIMARY}_high"]
    assert list(table[table.method == "dpo"]["rank"]) == [1, 2, 3, 4, 5]
    assert set(best_trials(table).method) == {"dpo", "rlhf"}


def test_a_trial_that_lost_seeds_is_listed_but_not_chosen():
    """Seeds may have diverged or be missing."""
    made = searched()
    at_best = made.rows["method.policy_fit.learning_rate"] == 0.01
    diverged = at_best & (made.rows.method == "dpo") & (made.rows.seed == 3) & (made.rows.env == "gap")
    missing = at_best & (made.rows.method == "rlhf") & (made.rows.seed == 3) & (made.rows.env == "gap")
    made = dataclasses.replace(made, rows=made.rows[~diverged & ~missing], diverged=made.rows[diverged])
    table = trials(made)
    left_out = table[table["rank"].isna()].set_index("method")
    assert list(left_out["method.policy_fit.learning_rate"]) == [0.01, 0.01]
    assert list(left_out.loc["dpo", ["seeds", "diverged"]]) == [7, 1]
    assert list(left_out.loc["rlhf", ["seeds", "diverged"]]) == [7, 0]
    assert 0.01 not in set(best_trials(table)["method.policy_fit.learning_rate"])
    nothing = Study("x", made.rows[made.rows.method == "dpo"], [], made.rows[made.rows.method == "rlhf"])
    assert set(best_trials(trials(nothing)).method) == {"dpo"}
    assert "rlhf" in best_trials_table(trials(nothing)).splitlines()[-1]


def test_the_best_values_are_yaml_for_the_methods_files():
    made = searched()
    text = tuned_yaml(made, trials(made), "python scripts/train.py -m experiment=tune")
    assert yaml.safe_load(text) == {
        "dpo": {"policy_fit": {"learning_rate": 0.01, "steps": 1002}},
        "rlhf": {"policy_fit": {"learning_rate": 0.01, "steps": 1002}, "rl": {"steps": 502}},
    }
    comments = "".join(line for line in text.splitlines(keepends=True) if "#" in line)
    assert "python scripts/train.py -m experiment=tune\n" in comments
    assert "gap, no_gap, seeds 0 to 7" in comments
    assert "5 trials: 0." in comments


def test_only_a_search_over_several_settings_of_a_method_is_one():
    assert two_by_two().searched == []
    assert trials(two_by_two()).empty
    one = study(*(rows("dpo", "gap", 0.5, **GAP, method__policy_fit__steps=n) for n in range(1, 9)))
    assert trials(one).empty, "one number has a figure of its own"
    world = study(*(rows("dpo", "gap", 0.5, beta=n / 9, env__n_pairs=100 * n) for n in range(1, 9)))
    assert trials(world).empty
    apart = study(searched().rows.drop(columns=["setting", "variant"]), rows("other", "gap", 0.5, **GAP))
    assert apart.comparisons == [], "a trial of one method has nothing to do with each trial of another"
    assert searched().searched == [
        "method.policy_fit.learning_rate",
        "method.policy_fit.steps",
        "method.rl.steps",
    ]


def test_settings_of_one_method_alone_make_no_trials_of_another():
    own = [rows("rlhf", "gap", 0.5, **GAP, method__rl__steps=n, method__rl__learning_rate=n / 9) for n in range(1, 7)]
    table = trials(study(rows("dpo", "gap", 0.5, **GAP), *own))
    assert list(table.groupby("method").trials.first()) == [1, 6]
    assert pd.isna(best_trials(table).set_index("method").loc["dpo", "method.rl.steps"])
    assert "dpo: {}" in tuned_yaml(study(rows("dpo", "gap", 0.5, **GAP), *own), table, "")


def test_the_tuning_preset_ends_with_values_for_the_files(tmp_path):
    tiny = ["method=dpo", "env=gap", "search.num_trials=5", *TINY[:-2], "method.policy_fit.steps=20", "device=cpu"]
    run("train", "-m", "experiment=tune", *tiny, cwd=tmp_path)
    output = run("plot", "study=tune", cwd=tmp_path)
    folder = tmp_path / "outputs" / "tune"
    table = pd.read_csv(folder / "tuning.csv")
    assert len(table) == 5
    assert table["method.policy_fit.learning_rate"].nunique() == 5
    as_it_stands = DPO().policy_fit.weight_decay
    assert as_it_stands in set(table["method.policy_fit.weight_decay"]), "the first trial is the file as it stands"
    assert "tuning.csv" in output
    text = (folder / "tuned.yaml").read_text()
    assert "python scripts/train.py -m experiment=tune method=dpo" in text
    best_rate = table.set_index("rank").loc[1, "method.policy_fit.learning_rate"]
    assert yaml.safe_load(text)["dpo"]["policy_fit"]["learning_rate"] == best_rate
    assert (folder / "tuning.png").exists()
    assert "tuning.svg" in (folder / "report.html").read_text()
    assert not (folder / "rlhf_vs_dpo_comparison.png").exists()
