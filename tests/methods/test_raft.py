import pytest
import torch

from alignsim import PolicyModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.evaluation.value import policy_value
from alignsim.methods.base import Monitor
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.raft import RAFT, ImitationConfig, imitate_best
from alignsim.runs.condition import Condition, run_condition


def best_of(probs, rewards, samples):
    """The distribution of the best of samples from probs, (R,), where no two responses are equally good."""
    below = torch.stack([probs[rewards < r].sum() for r in rewards])
    return (below + probs) ** samples - below**samples


@pytest.mark.parametrize(("iterations", "samples"), [(1, 2), (2, 2), (1, 4)])
def test_an_iteration_reaches_the_best_of_k(iterations, samples):
    """Each iteration comes to the best of k of the policy before."""
    env = SimplifiedEnvironment(2, 2, vocab_size=4, seeds=(0,))
    responses = torch.cartesian_prod(*2 * [torch.arange(4)])
    rewards = torch.randn(16, generator=torch.Generator().manual_seed(0))

    def reward(prompts, written):  # the same of all prompts
        return rewards[4 * written[..., 0] + written[..., 1]]

    policy, x = PolicyModel(env), env.prompts("test", 20)
    settings = ImitationConfig(
        steps=300 * iterations,
        steps_per_iteration=300,
        prompts_per_step=256,
        samples_per_prompt=samples,
        learning_rate=1e-2,
    )
    imitate_best(policy, reward, settings, beta=0.5, monitor=Monitor())
    probs = torch.full((16,), 1 / 16)
    for _ in range(iterations):
        probs = best_of(probs, rewards, samples)
    reached = policy.log_prob(x, responses.expand(1, 20, 16, 2)).exp()
    assert (reached - probs).abs().sum(-1).mean() / 2 < 0.03  # in total variation


def reached(**settings):
    env = SimplifiedEnvironment(3, 4, 1.5, seeds=(0, 1))
    policy, settings = PolicyModel(env), ImitationConfig(learning_rate=1e-2, **settings)
    imitate_best(policy, env.reward, settings, beta=0.5, monitor=Monitor())
    return policy_value(policy, 0.5, env.prompts("test", 50), Evaluation())


def test_iterations_and_samples_move_the_policy():
    """Without a KL term more iterations and more samples move it further."""
    few, many, picky = (
        reached(steps=steps, steps_per_iteration=100, samples_per_prompt=samples)
        for steps, samples in [(100, 2), (500, 2), (100, 8)]
    )
    assert (many.kl > few.kl).all()
    assert (picky.kl > few.kl).all()
    assert (picky.reward > few.reward).all()
    assert (few.reward > 0).all()


def test_a_condition_with_it_is_measured():
    method = RAFT(PreferenceFitConfig(steps=60), ImitationConfig(steps=60, prompts_per_step=8, samples_per_prompt=3))
    results = run_condition(Condition(method, SimplifiedEnvironment(3, 4, n_pairs=200, seeds=(0, 1)))).results
    assert results.drop(columns=["diverged_stage", "diverged_step"]).notna().all(axis=None)
