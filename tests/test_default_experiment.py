"""What the comparison shows at its full size: slow, and the reason why alignsim exists.

The margins are those of the project's first issue, and so are the settings, the same for both methods and untuned; what
tuned methods reach stands in the README.
"""

import dataclasses
from functools import cache

import pytest

from alignsim import SimplifiedEnvironment
from alignsim.methods.dpo import DPO
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.models.config import ModelConfig, RewardModelConfig
from alignsim.runs.condition import Condition, run_condition

pytestmark = pytest.mark.slow

SAME = PreferenceFitConfig(learning_rate=1e-3, weight_decay=0.01)
METHODS = {"dpo": DPO(SAME), "rlhf": RLHF(SAME, RLOO(steps=2000, learning_rate=3e-3, weight_decay=0.01))}


@cache
def values(method, complexity_factor, n_pairs=4000, reads="content"):
    """Normalized value of each of the 16 default seeds."""
    env = SimplifiedEnvironment(complexity_factor=complexity_factor, n_pairs=n_pairs, seeds=range(16))
    if n_pairs > 4000:  # enough steps for DPO to stop improving by itself
        fit = "reward_fit" if isinstance(method, RLHF) else "policy_fit"
        method = dataclasses.replace(method, **{fit: dataclasses.replace(SAME, steps=6000)})
    model = ModelConfig(reward=RewardModelConfig(reads=reads))
    return run_condition(Condition(method, env, model)).results.normalized_value


def advantage(complexity_factor, n_pairs=4000, reads="content"):
    """Mean paired advantage of RLHF over DPO."""
    rlhf = values(METHODS["rlhf"], complexity_factor, n_pairs, reads)
    return float((rlhf - values(METHODS["dpo"], complexity_factor, n_pairs)).mean())


def test_without_a_gap_the_methods_tie_and_with_it_rlhf_leads():
    advantages = [advantage(factor) for factor in (1.0, 1.25, 1.5, 2.0)]
    assert abs(advantages[0]) <= 0.05
    assert advantages[-1] >= 0.3
    assert advantages == sorted(advantages)


def test_with_four_times_the_pairs_the_advantage_at_least_halves():
    assert advantage(2.0, n_pairs=16000) <= advantage(2.0) / 2


def test_a_verifier_that_reads_tokens_loses_the_advantage():
    assert advantage(2.0, reads="tokens") <= advantage(2.0) / 4
