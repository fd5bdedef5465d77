"""A guard: whoever changes what a condition means raises `RESULTS_VERSION`, so that old results are not mixed in."""

import pytest

from alignsim import SimplifiedEnvironment
from alignsim.methods.dpo import DPO
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.runs.condition import Condition, run_condition
from alignsim.runs.storage.versions import RESULTS_VERSION

SHORT = PreferenceFitConfig(steps=200)
METHODS = {"dpo": DPO(SHORT), "rlhf": RLHF(SHORT, RLOO(steps=100, learning_rate=3e-3, weight_decay=0.01))}

#: The values of seeds 0 and 1, by the version of the results that they are of.
VALUES = {
    3: {"dpo": [-0.003, 0.001], "rlhf": [0.242, 0.427]},
    4: {"dpo": [-0.003, 0.001], "rlhf": [0.242, 0.427]},  # the same; only the reference's value is new
    5: {"dpo": [-0.003, 0.001], "rlhf": [0.242, 0.427]},  # the same; a learned reward's optimum, where it is sampled
    6: {"dpo": [-0.003, 0.001], "rlhf": [0.242, 0.427]},  # the same; keys and columns have other names
}


@pytest.mark.parametrize("method", METHODS)
def test_a_condition_means_what_this_version_of_the_results_says(method):
    env = SimplifiedEnvironment(4, 5, 2.0, n_pairs=500, seeds=(0, 1))
    values = run_condition(Condition(METHODS[method], env)).results["value"]
    changed = (
        "what a condition gives has changed: raise alignsim.runs.storage.versions.RESULTS_VERSION, add its values here"
    )
    assert list(values) == pytest.approx(VALUES[RESULTS_VERSION][method], abs=0.01), changed
