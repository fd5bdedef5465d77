import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from alignsim import SimplifiedEnvironment
from alignsim.envs.labels import BradleyTerry, Deterministic
from alignsim.envs.references import Tilted
from alignsim.envs.simplified import windows

SEEDS = (0, 3, 11)


def small(complexity_factor=2.0, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "vocab_size": 3, "seeds": SEEDS, "n_pairs": 200} | changes
    return SimplifiedEnvironment(complexity_factor=complexity_factor, **settings)


@pytest.mark.parametrize(("old", "new"), [("read", "tokens_to_content"), ("write", "content_to_tokens")])
def test_an_old_method_name_is_refused_by_name(old, new):
    with pytest.raises(TypeError) as refused:
        type("Mine", (SimplifiedEnvironment,), {old: lambda self, tokens: tokens})
    assert all(name in str(refused.value) for name in ("Mine", old, new))


@pytest.mark.parametrize("vocab_size", [2, 3, 5])
@pytest.mark.parametrize("complexity_factor", [1.0, 1.5, 2.0, 2.7, 4.0])
def test_content_and_tokens_are_inverse_bijections(vocab_size, complexity_factor):
    env = small(complexity_factor, vocab_size=vocab_size)
    every = env.all_responses()
    assert every.shape == (1, 1, vocab_size**4, 4)
    content = env.tokens_to_content(every)
    assert torch.equal(env.content_to_tokens(content), every)
    assert torch.equal(env.tokens_to_content(env.content_to_tokens(every)), every)
    assert len(torch.unique(content.view(-1, 4), dim=0)) == vocab_size**4


@pytest.mark.parametrize("complexity_factor", [1.0, 1.25, 2.5, 3.0, 6.0])
def test_content_is_the_windowed_sum_of_its_definition(complexity_factor):
    env = SimplifiedEnvironment(2, 6, complexity_factor, vocab_size=5)
    y = torch.randint(0, 5, (40, 6), generator=torch.Generator().manual_seed(0))
    sizes = windows(6, complexity_factor)
    for t in range(6):
        k = min(sizes[t], t + 1)
        expected = sum(y[:, t - j] for j in range(k)) % 5
        assert torch.equal(env.tokens_to_content(y)[:, t], expected)


def test_at_complexity_one_the_content_is_the_response():
    env = small(1.0)
    assert torch.equal(env.tokens_to_content(env.all_responses()), env.all_responses())


@pytest.mark.parametrize("output_dim", [1, 2, 7, 8, 16])
def test_windows_are_whole_even_and_average_to_the_factor(output_dim):
    for total in range(output_dim, output_dim**2 + 1):
        sizes = windows(output_dim, total / output_dim)
        assert sum(sizes) == total
        assert max(sizes) - min(sizes) <= 1
    for factor in np.linspace(1, output_dim, 37):
        assert abs(np.mean(windows(output_dim, factor)) - factor) <= 0.5 / output_dim + 1e-9
    assert windows(8, 2.5) == [2, 3] * 4


def test_reward_weights_are_centered_and_scaled():
    """Reward weights are centered and give the reward its standard deviation."""
    env = SimplifiedEnvironment(4, 5, 2.0, vocab_size=3, reward_scale=1.7, seeds=SEEDS)
    assert torch.allclose(env.reward_weights.mean(2), torch.zeros(3, 5, 4), atol=1e-6)
    prompts = env.prompts("test", 4000)
    rewards = env.reward(prompts, env.all_responses())
    assert rewards.shape == (3, 4000, 3**5)
    # exact over responses, sampled over prompts: within 5 standard errors of the deviation over prompts
    assert torch.allclose(rewards.square().mean((1, 2)).sqrt(), torch.tensor(1.7), rtol=0.05)
    expected = env.reward_weights.square().sum((1, 2, 3)).div(3).sqrt()
    assert torch.allclose(expected, torch.tensor(1.7), rtol=1e-5)


@pytest.mark.parametrize("complexity_factor", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_the_closed_form_optimum_equals_enumeration(complexity_factor, beta):
    env = small(complexity_factor)
    prompts, every = env.prompts("test", 20), env.all_responses()
    rewards = env.reward(prompts, every)
    tilted = env.reference_log_prob(prompts, every.expand(3, 20, -1, -1)) + rewards / beta
    log_z = tilted.logsumexp(-1)
    assert torch.allclose(env.optimal_value(beta, prompts), beta * log_z.mean(1), rtol=1e-4)
    log_prob = env.optimal_log_prob(beta, prompts, every.expand(3, 20, -1, -1))
    assert torch.allclose(log_prob, tilted - log_z[..., None], atol=1e-4)
    p = log_prob.exp()
    assert torch.allclose(p.sum(-1), torch.ones(3, 20), atol=1e-4)
    value = (p * (rewards - beta * (log_prob + np.log(81)))).sum(-1).mean(1)
    assert torch.allclose(value, env.optimal_value(beta, prompts), rtol=1e-4)


def test_no_distribution_beats_the_optimum():
    env, beta = small(), 0.5
    prompts, every = env.prompts("test", 10), env.all_responses()
    logits = torch.randn(50, 3, 10, 81, generator=torch.Generator().manual_seed(1)) * 2
    logits += env.reward(prompts, every) / beta
    p = logits.softmax(-1)
    values = (p * (env.reward(prompts, every) - beta * (p.log() + np.log(81)))).sum(-1).mean(-1)
    assert (values <= env.optimal_value(beta, prompts) + 1e-5).all()


def test_all_but_the_tokens_is_the_same_at_every_complexity():
    prompts = small(1.0).prompts("test", 50)
    base = small(1.0).preference_data()
    for factor in (1.5, 2.0, 4.0):
        env = small(factor)
        data = env.preference_data()
        for part in ("train", "validation"):
            ours, theirs = getattr(data, part), getattr(base, part)
            assert torch.equal(ours.prompts, theirs.prompts)
            assert torch.equal(env.tokens_to_content(ours.responses), theirs.responses)
        assert torch.equal(env.optimal_value(0.5, prompts), small(1.0).optimal_value(0.5, prompts))
        assert not torch.equal(data.train.responses, base.train.responses)


def test_preferences_follow_bradley_terry_with_flipped_labels():
    env = small(n_pairs=20000, seeds=(5,))
    for noise in (0.0, 0.3):
        noisy = dataclasses.replace(env, labels=BradleyTerry(noise))
        pairs = noisy.preference_data().train
        rewards = noisy.reward(pairs.prompts, pairs.responses)
        p = torch.sigmoid((rewards[..., 0] - rewards[..., 1]).abs())  # that the better one is chosen
        p = p * (1 - noise) + (1 - p) * noise
        different = rewards[..., 0] != rewards[..., 1]
        chose_better = (rewards[..., 0] > rewards[..., 1])[different].float()
        standard_error = (p * (1 - p))[different].sum().sqrt() / different.sum()
        assert abs(chose_better.mean() - p[different].mean()) < 4 * standard_error


def test_deterministic_labels_prefer_the_better_response():
    """Deterministic preferences are for the better response until they are flipped."""
    plain, n = small(n_pairs=20000, seeds=(5,)), 20000
    drawn = plain.sample_preferences("pairs", n)
    for noise in (0.0, 0.3):
        env = dataclasses.replace(plain, labels=Deterministic(noise))
        pairs = env.sample_preferences("pairs", n)
        chosen, rejected = env.reward(pairs.prompts, pairs.responses).unbind(-1)
        different = chosen != rejected
        better = (chosen > rejected)[different].float().mean()
        assert abs(better - (1 - noise)) <= 4 * (noise * (1 - noise) / n) ** 0.5
        assert torch.equal(pairs.prompts, drawn.prompts)
        assert torch.equal(pairs.responses.sum(2), drawn.responses.sum(2)), "the same two responses in some order"


def test_the_split_and_the_shapes():
    env = small(n_pairs=50, validation_fraction=0.3)
    data = env.preference_data()
    assert (len(data.train), len(data.validation)) == (35, 15)
    assert data.train.prompts.shape == (3, 35, 3)
    assert data.train.responses.shape == (3, 35, 2, 4)
    assert (
        env.reference_log_prob(data.train.prompts, data.train.responses)
        .unique()
        .allclose(torch.tensor(-4 * np.log(3), dtype=torch.float32))
    )


def test_a_seed_sees_the_same_world_in_any_company():
    alone, among = small(seeds=(7,)), small(seeds=tuple(range(16)))
    assert torch.equal(alone.reward_weights[0], among.reward_weights[7])
    assert torch.equal(alone.preference_data().train.responses[0], among.preference_data().train.responses[7])
    assert not torch.equal(among.reward_weights[6], among.reward_weights[7])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"complexity_factor": 0.99}, "greater than or equal to 1"),
        ({"complexity_factor": 4.01}, "at most output_dim=4"),
        ({"complexity_factor": float("nan")}, "finite"),
        ({"vocab_size": 1}, "greater than or equal to 2"),
        ({"input_dim": 0}, "greater than or equal to 1"),
        ({"reward_scale": -1.0}, "greater than 0"),
        ({"n_pairs": 1}, "at least one pair"),
        ({"validation_fraction": 0.999}, "at least one pair"),
        ({"labels": "plackett_luce"}, "Labels"),
        ({"reference": "uniform"}, "Reference"),
        ({"coverage": 0.0}, "greater than 0"),
        ({"coverage": 1.1}, "less than or equal to 1"),
        ({"seeds": ()}, "at least 1"),
        ({"n_pairs": 3.5}, "valid integer"),
        ({"gap": 2}, "Unexpected keyword"),
    ],
)
def test_values_out_of_range_are_refused(change, told):
    with pytest.raises(ValidationError, match=told):
        small(**change)


@pytest.mark.parametrize(
    ("component", "change"),
    [
        (BradleyTerry, {"flip_probability": 0.6}),
        (Deterministic, {"flip_probability": -0.1}),
        (Tilted, {"tilt": float("inf")}),
        (Tilted, {"tilt": 101.0}),
        (Tilted, {"tilt": "uniform"}),
    ],
)
def test_components_out_of_range_are_refused(component, change):
    with pytest.raises(ValidationError) as refused:
        component(**change)
    assert [error["loc"] for error in refused.value.errors()] == [tuple(change)]


@pytest.mark.parametrize("shape", [(4,), (5, 4), (4, 5, 4), (2, 3, 4, 4), (2, 3, 4, 4, 4)])
def test_responses_of_any_shape_are_read_alike(shape):
    env = SimplifiedEnvironment(3, 4, 2.0, vocab_size=3)
    responses = torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(0))
    one_by_one = torch.stack([env.tokens_to_content(one) for one in responses.view(-1, 4)]).view(shape)
    assert torch.equal(env.tokens_to_content(responses), one_by_one)
    assert torch.equal(env.content_to_tokens(env.tokens_to_content(responses)), responses)
