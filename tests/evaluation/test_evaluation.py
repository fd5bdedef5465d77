import dataclasses
import math

import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment, train_policy_with_dpo, train_reward_model
from alignsim.config.schema import Evaluation
from alignsim.evaluation.measures import MEASURES, measure
from alignsim.evaluation.value import _without_each, policy_value, soft_optimal_value
from alignsim.methods.base import TrainingResult
from alignsim.methods.preference_fit import PreferenceFitConfig

EXACT = Evaluation(prompts=100, pairs=4000)
SAMPLED = dataclasses.replace(EXACT, enumeration_limit=1, samples=400)
ENV = SimplifiedEnvironment(3, 5, 2.0, seeds=(0, 1, 2), n_pairs=600)
SHORT = PreferenceFitConfig(steps=300, learning_rate=3e-3, batch_size=64)


@pytest.fixture(scope="module")
def policy():
    return train_policy_with_dpo(ENV, settings=SHORT)


@pytest.fixture(scope="module")
def reward_model():
    return train_reward_model(ENV, settings=SHORT)


def test_the_reference_policy_has_value_zero():
    value = policy_value(PolicyModel(ENV), 0.5, ENV.prompts("test", 100), EXACT)
    for part in (value.value, value.reward, value.kl, value.standard_error):
        assert torch.allclose(part, torch.zeros(3), atol=1e-5)


def test_sampling_agrees_with_enumeration(policy):
    """Sampling agrees with enumeration within its standard error."""
    prompts = ENV.prompts("test", 100)
    exact, sampled = (policy_value(policy, 0.5, prompts, how) for how in (EXACT, SAMPLED))
    assert (sampled.standard_error > 0).all()
    z = (sampled.value - exact.value) / sampled.standard_error
    assert (z.abs() < 4).all()


def test_the_standard_error_is_the_spread_of_repetitions(policy):
    """The standard error is the spread of repeated measurements."""
    env, how = policy.env, dataclasses.replace(SAMPLED, samples=20)
    prompts, values, errors = env.prompts("test", 10), [], []
    for seed in range(100):  # other sampling noise for the same world
        policy.env.streams.seeds = (1000 + seed, 2000 + seed, 3000 + seed)
        value = policy_value(policy, 0.5, prompts, how)
        values.append(value.value)
        errors.append(value.standard_error)
    policy.env.streams.seeds = (0, 1, 2)
    ratio = torch.stack(values).std(0) / torch.stack(errors).mean(0)
    assert ((ratio > 0.75) & (ratio < 1.3)).all()


def test_importance_sampling_agrees_with_enumeration(reward_model):
    """The soft optimal policy by importance sampling agrees with enumeration."""
    prompts = ENV.prompts("test", 100)
    exact, sampled = (soft_optimal_value(reward_model, 0.5, prompts, how) for how in (EXACT, SAMPLED))
    z = (sampled.value - exact.value) / sampled.standard_error
    assert (z.abs() < 4).all()
    assert torch.allclose(sampled.kl, exact.kl, rtol=0.05)


def test_the_jackknife_is_right_for_light_samples():
    """What is left without a sample is known however light the others are."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.0, 1.0, 100.0, 10_000.0])[:, None]
    log_weights = (spread * torch.randn(4, 6, generator=generator, dtype=torch.double)).log_softmax(-1)
    values = torch.randn(2, 4, 6, generator=generator, dtype=torch.double)
    means, log_others = _without_each(log_weights, values)
    for i in range(6):
        others = [j for j in range(6) if j != i]
        rest = log_weights[:, others]
        assert torch.allclose(means[..., i], (rest.softmax(-1) * values[..., others]).sum(-1))
        assert torch.allclose(log_others[:, i], rest.logsumexp(-1))


@pytest.mark.parametrize("beta", [0.1, 0.01, 0.0001])
def test_importance_sampling_stays_below_the_optimum(beta):
    """One sample outweighs all others then: their weights are less than any number of 32 bits."""
    scalar = RewardModel(ENV, head="scalar", beta=0.5)
    generator = torch.Generator().manual_seed(0)
    for p in scalar.parameters.values():
        p += torch.randn(p.shape, generator=generator)
    prompts = ENV.prompts("test", 100)
    found = soft_optimal_value(scalar, beta, prompts, dataclasses.replace(SAMPLED, samples=16))
    assert (found.value < ENV.optimal_value(beta, prompts)).all()
    assert (found.kl > 0).all()
    assert (found.kl < 2 * math.log(16)).all()


def test_importance_sampling_with_few_samples_is_unbiased():
    """Over many prompts noise shrinks and the bias of weighted means would not: here by half a unit."""
    scalar = RewardModel(ENV, head="scalar")
    generator = torch.Generator().manual_seed(0)
    for p in scalar.parameters.values():
        p += 0.7 * torch.randn(p.shape, generator=generator)
    prompts = ENV.prompts("test", 2000)
    few = dataclasses.replace(SAMPLED, samples=16)
    exact, sampled = (soft_optimal_value(scalar, 0.5, prompts, how) for how in (EXACT, few))
    z = (sampled.value - exact.value) / sampled.standard_error
    assert (z.abs() < 4).all()


def test_no_policy_beats_the_soft_optimal_one(policy, reward_model):
    """Measured in the world whose true reward is the learned one, its value is beta log Z."""
    prompts, every = ENV.prompts("test", 50), ENV.all_responses()
    tilted = ENV.reference_log_prob(prompts, every.expand(3, 50, -1, -1)) + reward_model(prompts, every) / 0.5
    best = 0.5 * tilted.logsumexp(-1).mean(1)
    log_prob = policy.log_prob(prompts, every)
    log_ratio = log_prob - ENV.reference_log_prob(prompts, every.expand(3, 50, -1, -1))
    ours = (log_prob.exp() * (reward_model(prompts, every) - 0.5 * log_ratio)).sum(-1).mean(1)
    assert (ours < best).all()


def test_the_measures_are_what_they_are_said_to_be(policy, reward_model):
    trained = TrainingResult(policy, reward_model.fit, reward_model, reward_model)
    m = measure(trained, ENV, 0.5, EXACT)
    assert list(m) == list(MEASURES)
    assert all(values.shape == (3,) for values in m.values())
    assert torch.allclose(m["value"], m["reward"] - 0.5 * m["kl"], atol=1e-5)
    assert torch.allclose(m["normalized_value"] * m["optimal_value"], m["value"], atol=1e-5)
    assert torch.allclose(m["regret"], m["statistical_regret"] + m["computational_regret"], atol=1e-5)
    assert (m["statistical_regret"] > 0).all()
    assert (m["optimal_value"] > m["value"]).all()
    without = measure(TrainingResult(policy, policy.fit, policy.log_ratio), ENV, 0.5, EXACT)
    assert torch.isnan(without["statistical_regret"]).all()
    assert not torch.isnan(without["regret"]).any()


def test_the_true_reward_is_as_accurate_as_labels_allow():
    env = SimplifiedEnvironment(3, 5, 2.0, seeds=(0, 1))
    policy = PolicyModel(env)
    trained = TrainingResult(policy, train_reward_model(env, settings=PreferenceFitConfig(steps=1)).fit, env.reward)
    accuracy = measure(trained, env, 0.5, EXACT)["pair_accuracy"]
    pairs = env.sample_preferences("another", 20000)
    difference = env.reward(pairs.prompts, pairs.responses).diff(dim=-1).abs()
    bayes = torch.sigmoid(difference).mean((1, 2))
    assert torch.allclose(accuracy, bayes, atol=4 * (0.25 / 4000) ** 0.5)


def test_long_responses_are_measured_without_a_table():
    env = SimplifiedEnvironment(4, 64, 2.0, vocab_size=16, seeds=(0,), n_pairs=50)
    how = Evaluation(prompts=8, samples=16)
    policy = PolicyModel(env)
    policy.parameters["output.bias"] = torch.randn(1, 64 * 16, generator=torch.Generator().manual_seed(0)) / 8
    prompts = env.prompts("test", 8)
    value = policy_value(policy, 0.5, prompts, how)
    assert torch.isfinite(value.value).all()
    assert (value.standard_error > 0).all()
    reward_model = RewardModel(env)
    reward_model.parameters["output.bias"] = policy.parameters["output.bias"]
    # a reward without a prefix: the proposal is the soft-optimal policy itself, KL in closed form
    logits = policy.parameters["output.bias"].view(64, 16)
    p = logits.softmax(-1)
    expected = (p * (p.log() + torch.tensor(16.0).log())).sum()
    soft = soft_optimal_value(reward_model, 0.5, prompts, how)
    assert torch.allclose(soft.kl, expected, rtol=0.1)
