import torch

from alignsim import SimplifiedEnvironment, train_policy_with_rlhf
from alignsim.evaluation.measures import MEASURES
from alignsim.methods.oracle_rlhf import OracleRLHF
from alignsim.methods.rl.rloo import RLOO
from alignsim.runs.condition import Condition, run_condition

RL = RLOO(steps=30, prompts_per_step=8)


def environment(**changes):
    return SimplifiedEnvironment(3, 4, 2.0, **{"n_pairs": 100, "seeds": (0, 1)} | changes)


def test_it_is_rl_on_the_true_reward():
    env = environment()
    trained = run_condition(Condition(OracleRLHF(RL), env)).trained
    expected = train_policy_with_rlhf(env, env.reward, settings=RL)
    for name, p in expected.parameters.items():
        assert torch.equal(p, trained.policy.parameters[name])


def test_it_learns_nothing_from_the_pairs():
    fewer, more = (run_condition(Condition(OracleRLHF(RL), environment(n_pairs=n))).results for n in (10, 100))
    assert fewer.equals(more)
    learned = ["statistical_regret", "statistical_regret_standard_error", "computational_regret"]
    unknown = [*learned, "validation_loss", "best_step"]
    assert more[unknown].isna().all(axis=None)
    assert more[[name for name in MEASURES if name not in unknown]].notna().all(axis=None)
    assert (more.pair_accuracy > 0.5).all(), "of the reward that its policy implies"
