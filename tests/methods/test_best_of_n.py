import itertools
import math

import pytest
import torch

from alignsim import RewardModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.envs.references import Tilted
from alignsim.evaluation.value import policy_value
from alignsim.methods.best_of_n import BestOfN, BestOfNPolicy, best_of_n_kl_bound, best_of_n_log_ratio
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.runs.condition import Condition, run_condition

SHORT = PreferenceFitConfig(steps=60)


def of_all(env):
    return lambda prompts: env.reward(prompts, env.all_responses())


def brute_force(rewards, reference, n):
    """P(best = y) by going through all n-tuples; a coin decides between equal ones."""
    p = torch.zeros(len(rewards), dtype=torch.float64)
    for picked in itertools.product(range(len(rewards)), repeat=n):
        best = max(rewards[y] for y in picked)
        winners = [y for y in picked if rewards[y] == best]
        for y in winners:
            p[y] += reference[list(picked)].prod() / len(winners)
    return p


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(
    "rewards", [[0.3, -1.0, 2.0, 0.1, 0.5], [1.0, 0.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]], ids=str
)
def test_its_distribution_is_that_of_all_tuples(rewards, n):
    reference = torch.tensor([0.1, 0.3, 0.15, 0.25, 0.2], dtype=torch.float64)
    ratio = best_of_n_log_ratio(torch.tensor(rewards, dtype=torch.float64), reference.log(), n)
    assert torch.allclose(reference * ratio.exp(), brute_force(rewards, reference, n), atol=1e-12)


def test_what_the_reference_never_writes_is_never_the_best():
    reference = torch.tensor([0.0, 0.5, 0.5, 0.0]).log()
    ratio = best_of_n_log_ratio(torch.tensor([-1.0, 0.0, 1.0, 2.0]), reference, 3)
    p = (reference + ratio).exp()
    assert ratio.isfinite().all()
    assert torch.allclose(p, torch.tensor([0.0, 1 / 8, 7 / 8, 0.0]))


@pytest.mark.parametrize("n", [1, 2, 16, 1000])
@pytest.mark.parametrize("levels", [2, 50, 10**6])
def test_the_kl_bound_holds_and_is_tight(n, levels):
    """log n - (n - 1) / n, Beirami et al. 2024."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randint(levels, (3, 4000), generator=generator).double()
    reference = torch.randn(3, 4000, generator=generator, dtype=torch.float64).log_softmax(-1)
    ratio = best_of_n_log_ratio(rewards, reference, n)
    p = (reference + ratio).exp()
    kl = (p * ratio).sum(-1)
    assert torch.allclose(p.sum(-1), torch.ones(3, dtype=torch.float64))
    assert (kl <= best_of_n_kl_bound(n) + 1e-9).all()
    if levels == 10**6 and n <= 16:
        assert (kl > best_of_n_kl_bound(n) - 0.02).all()


def test_many_bad_responses_do_not_underflow():
    rewards, reference = torch.arange(256.0), torch.full((256,), 1 / 256).log()
    ratio = best_of_n_log_ratio(rewards, reference, 64)
    assert ratio.dtype == torch.float32
    assert ratio.isfinite().all()
    assert (reference + ratio).exp().sum() == pytest.approx(1, abs=1e-5)


def test_a_reward_of_the_prompt_changes_nothing():
    """Adding a function of the prompt to the reward changes nothing."""
    env = SimplifiedEnvironment(3, 4, 2.0, vocab_size=3, reference=Tilted(0.3), seeds=(0, 1))
    x, uniforms = env.prompts("test", 6), env.streams.uniform("test", (6, 20, 4))

    def reward(prompts, responses):
        return (16 * env.reward(prompts, responses)).round() / 16  # so that no sum is rounded

    def shifted(prompts, responses):
        return reward(prompts, responses) + 8 * prompts.sum(-1, keepdim=True).round()

    policies = [
        BestOfNPolicy(env, r, lambda prompts, r=r: r(prompts, env.all_responses()), 5) for r in (reward, shifted)
    ]
    responses, ratios = zip(
        *((p.sampler()(x, uniforms).responses, p.log_ratio_of_all(x)) for p in policies), strict=True
    )
    assert responses[0].shape == (2, 6, 4, 4)
    assert torch.equal(*responses)
    assert torch.equal(*ratios)


@pytest.mark.parametrize("tilt", [0.0, 0.4])
def test_sampling_agrees_with_enumeration(tilt):
    """Sampling agrees with enumeration and its KL is the bound."""
    env = SimplifiedEnvironment(3, 6, 2.0, reference=Tilted(tilt), seeds=(0, 1, 2))
    policy, prompts = BestOfNPolicy(env, env.reward, of_all(env), 5), env.prompts("test", 30)
    exact = policy_value(policy, 0.5, prompts, Evaluation())
    sampled = policy_value(policy, 0.5, prompts, Evaluation(enumeration_limit=1, samples=200))
    assert (exact.kl <= best_of_n_kl_bound(5)).all()
    assert torch.allclose(sampled.kl, torch.full((3,), best_of_n_kl_bound(5)), atol=1e-5)
    reached = exact.reward - 0.5 * sampled.kl
    assert ((sampled.value - reached).abs() < 4 * sampled.standard_error).all()


def test_samples_that_are_drawn_in_parts_agree_with_enumeration():
    """Where the random numbers of all candidates of a prompt would be too many at once."""
    env = SimplifiedEnvironment(3, 6, 2.0, seeds=(0, 1, 2))
    policy, prompts = BestOfNPolicy(env, env.reward, of_all(env), 300), env.prompts("test", 30)
    exact = policy_value(policy, 0.5, prompts, Evaluation())
    sampled = policy_value(policy, 0.5, prompts, Evaluation(enumeration_limit=1, samples=100))
    reached = exact.reward - 0.5 * sampled.kl
    assert ((sampled.value - reached).abs() < 4 * sampled.standard_error).all()


def test_more_to_pick_from_is_more_reward_and_more_kl():
    env, prompts = SimplifiedEnvironment(3, 6, 2.0), SimplifiedEnvironment(3, 6, 2.0).prompts("test", 30)
    values = [
        policy_value(BestOfNPolicy(env, env.reward, of_all(env), n), 0.5, prompts, Evaluation()) for n in (1, 2, 4, 8)
    ]
    assert float(values[0].kl) == pytest.approx(0, abs=1e-5)
    assert all(a.reward < b.reward and a.kl < b.kl for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("n", [3, 20])
def test_the_method_picks_among_as_many_as_it_is_told(n):
    env = SimplifiedEnvironment(3, 4, n_pairs=200, seeds=(0, 1))
    trained = run_condition(Condition(BestOfN(SHORT, n=n), env)).trained
    x = env.prompts("test", 5)
    of_all = trained.reward_model.rewards_of_all(x)
    reference = env.reference_log_prob(x, env.all_responses()).expand_as(of_all)
    assert torch.allclose(trained.policy.log_ratio_of_all(x), best_of_n_log_ratio(of_all, reference, n))


def test_a_reward_that_knows_nothing_picks_like_the_reference():
    env = SimplifiedEnvironment(3, 4, 2.0, reference=Tilted(0.5))
    flat = RewardModel(env)
    assert BestOfNPolicy(env, flat, flat.rewards_of_all, 16).log_ratio_of_all(env.prompts("test", 5)).abs().max() < 1e-6


@pytest.mark.parametrize("limit", [4096, 1])
def test_a_condition_with_it_is_measured_seed_by_seed(limit):
    evaluation = Evaluation(prompts=20, enumeration_limit=limit, samples=8, pairs=50)
    few, many = (
        run_condition(
            Condition(BestOfN(SHORT), SimplifiedEnvironment(3, 4, n_pairs=200, seeds=s), evaluation=evaluation)
        )
        for s in ((3,), range(5))
    )
    measures = [name for name in few.results if name not in ("seed", "diverged_stage", "diverged_step")]
    assert few.results[measures].notna().all(axis=None)
    assert few.results["value"][0] == pytest.approx(many.results["value"][3], abs=1e-3)
    assert list(few.weights()) == ["reward_model"]
    assert (many.results.reward > 0).all()


def test_an_unlikely_response_has_a_finite_ratio():
    """A response that the reference hardly ever writes has a finite ratio."""
    reference = torch.tensor([0.25, 1e-18, 0.25, 0.5], dtype=torch.double)
    ratio = best_of_n_log_ratio(torch.arange(4.0, dtype=torch.double), reference.log(), 16)
    # F = 1/4 below and at it: the ratio is n F^(n-1)
    assert ratio[1].item() == pytest.approx(math.log(16) + 15 * math.log(0.25))
    p = (ratio + reference.log()).exp()
    assert p.sum().item() == pytest.approx(1)
    assert (p * ratio).sum().item() == pytest.approx(0.69297, abs=1e-5)
