import pytest

from alignsim import SimplifiedEnvironment, run_experiment
from alignsim.config.schema import Evaluation
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.methods.dpo import DPO
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.runs.condition import Condition, run_condition


def environment(complexity_factor):
    return SimplifiedEnvironment(3, 4, complexity_factor, n_pairs=150)


def test_run_experiment_gives_a_tidy_table():
    """A row for each method, environment and seed."""
    short = PreferenceFitConfig(steps=30)
    methods = {"rlhf": RLHF(short, RLOO(steps=10)), "dpo": DPO(short)}
    table = run_experiment(environment(2.0), environment(1.0), num_iterations=3, methods=methods)
    assert list(table.columns) == ["method", "env", "seed", *MEASURES, *DIVERGED]
    assert len(table) == 2 * 2 * 3
    assert not table.duplicated(["method", "env", "seed"]).any()
    assert set(table.seed) == {0, 1, 2}
    assert (table.groupby("seed").optimal_value.nunique() == 1).all(), "the optimum is the same with and without a gap"
    assert table[table.method == "dpo"].statistical_regret.isna().all()
    # the command line stands on the same function: one condition, seed by seed the same numbers
    ours = run_condition(Condition(DPO(short), SimplifiedEnvironment(3, 4, 2.0, n_pairs=150, seeds=(0, 1, 2)))).results
    theirs = table[(table.method == "dpo") & (table.env == "gap")].reset_index(drop=True)
    assert ours["value"].equals(theirs["value"])


def test_no_seeds_is_refused():
    with pytest.raises(ValueError, match="num_iterations=0: must be at least 1"):
        run_experiment(environment(2.0), environment(1.0), num_iterations=0)


def test_long_responses_are_never_listed():
    """There are 16 ** 64 of them."""
    env = SimplifiedEnvironment(4, 64, 2.0, vocab_size=16, seeds=(0, 1), n_pairs=60)
    short, evaluation = (
        PreferenceFitConfig(steps=6, batch_size=20),
        Evaluation(prompts=10, samples=4, pairs=20, curve_prompts=4),
    )
    for method in (DPO(short), RLHF(short, RLOO(steps=4, prompts_per_step=3))):
        results = run_condition(Condition(method, env, evaluation=evaluation)).results
        assert results[["value", "kl", "pair_accuracy"]].notna().all(axis=None)
        assert (results.value_standard_error > 0).all()
