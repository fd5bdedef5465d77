import dataclasses

import pytest
import torch

from alignsim import SimplifiedEnvironment
from alignsim.envs import coverage as coverage_module
from alignsim.envs.coverage import covered_residues, is_covered, new_keys, sample_covered
from alignsim.envs.references import Tilted
from alignsim.envs.rng import Streams

SEEDS = (0, 3, 11)


def partial(share=0.5, complexity_factor=2.0, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "vocab_size": 3, "seeds": SEEDS, "n_pairs": 500} | changes
    return SimplifiedEnvironment(complexity_factor=complexity_factor, coverage=share, **settings)


@pytest.mark.parametrize("vocab_size", [2, 3])
@pytest.mark.parametrize("tilt", [0.0, 0.7])
@pytest.mark.parametrize("share", [0.15, 0.5])
def test_shown_responses_are_the_covered_ones(vocab_size, tilt, share):
    """Shown responses are those of the reference that are covered."""
    env, n = partial(share, vocab_size=vocab_size, reference=Tilted(tilt)), 20000
    prompts, every = env.prompts("test", 2), env.all_responses().expand(3, 2, -1, -1)
    covered = env.is_covered(every)
    log_ref = env.reference_log_prob(prompts, every).expand(covered.shape)
    p = log_ref.masked_fill(~covered, -torch.inf).softmax(-1)
    shown = env.sample_shown(env.streams.uniform("test", (2, n, 4)), prompts)
    index = (shown * vocab_size ** torch.arange(3, -1, -1)).sum(-1)
    counts = torch.zeros_like(p).scatter_add_(-1, index, torch.ones_like(index, dtype=torch.float))
    assert (counts[~covered] == 0).all()
    chi_square = torch.where(covered, (counts - n * p).square() / (n * p), 0).sum(-1)
    free = covered.sum(-1) - 1
    assert (chi_square <= free + 6 * (2 * free) ** 0.5).all()


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_uncovered_contents_are_in_no_training_pair(tilt):
    """Contents that are not covered appear in no pair to learn from."""
    env = partial(0.3, reference=Tilted(tilt))
    data = env.preference_data()
    for pairs in (data.train, data.validation):
        assert env.is_covered(pairs.responses).all()
    assert not env.is_covered(env.sample_preferences("evaluation.pairs", 500).responses).all()


def test_all_but_the_pairs_to_learn_from_is_as_at_full_coverage():
    env, full = partial(0.3), partial(1.0)
    prompts = env.prompts("evaluation", 20)
    assert torch.equal(prompts, full.prompts("evaluation", 20))
    assert torch.equal(env.optimal_value(0.5, prompts), full.optimal_value(0.5, prompts))
    assert torch.equal(env.preference_data().train.prompts, full.preference_data().train.prompts)
    ours, theirs = (world.sample_preferences("evaluation.pairs", 50) for world in (env, full))
    assert torch.equal(ours.responses, theirs.responses)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_contents_that_is_covered_is_the_coverage(share):
    env = partial(share, output_dim=8, vocab_size=2, seeds=tuple(range(100)))
    shares = env.is_covered(env.all_responses().expand(100, 1, -1, -1)).float().mean((1, 2))
    # each content but one with probability `share`, any two independently: a variance of share (1 - share) / 256
    deviation = (share * (1 - share) / 256) ** 0.5
    assert abs(float(shares.mean()) - (share + (1 - share) / 256)) < 4 * deviation / 100**0.5 + 0.5 / 256
    assert 0.6 * deviation < shares.std() < 1.5 * deviation


def test_at_least_two_contents_are_shown():
    assert partial(0.1, vocab_size=16, output_dim=2).coverage == 0.1
    assert partial(2 / 81).coverage == 2 / 81
    with pytest.raises(ValueError, match=r"at least 2 of the 81 contents: at least 0\.0247"):
        partial(0.0246)
    assert partial(1e-9, output_dim=1000, vocab_size=10_000).coverage == 1e-9


def test_however_small_the_coverage_something_is_shown():
    keys = new_keys(Streams(range(50)), output_dim=1, vocab_size=2)
    covered = is_covered(keys, 1e-9, torch.arange(2)[None, None, :, None].expand(50, 1, -1, -1))
    assert (covered.sum(-1) == 1).all()
    log_probs, uniforms = torch.randn(50, 3, 1, 2).log_softmax(-1), torch.rand(50, 3, 40, 1)
    assert is_covered(keys, 1e-9, sample_covered(log_probs, keys, 1e-9, uniforms)).all()


def test_coverage_depends_on_the_seed_alone():
    """The same contents are covered at every complexity and others for every seed."""
    base = partial(0.5, 1.0, reference=Tilted(0.3))
    for factor in (1.5, 2.0, 4.0):
        env = partial(0.5, factor, reference=Tilted(0.3))
        for part in ("train", "validation"):
            ours, theirs = getattr(env.preference_data(), part), getattr(base.preference_data(), part)
            assert torch.equal(env.tokens_to_content(ours.responses), theirs.responses)
    one, two, three = base.is_covered(base.all_responses().expand(3, 1, -1, -1))
    assert not torch.equal(one, two)
    assert not torch.equal(two, three)


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_a_seed_is_shown_the_same_in_any_company(tilt, monkeypatch):
    alone, among = partial(seeds=(7,), reference=Tilted(tilt)), partial(seeds=tuple(range(16)), reference=Tilted(tilt))
    expected = alone.preference_data().train.responses[0]
    assert torch.equal(expected, among.preference_data().train.responses[7])
    assert torch.equal(expected, dataclasses.replace(alone).preference_data().train.responses[0])
    monkeypatch.setattr(coverage_module, "_NUMBERS_AT_ONCE", 10_000)
    assert torch.equal(expected, among.preference_data().train.responses[7])


def test_full_coverage_is_the_plain_distribution():
    """Where everything is covered the plain distribution is drawn from."""
    streams = Streams((1, 2))
    log_probs = streams.normal("test", (5, 6, 4)).log_softmax(-1)
    uniforms = streams.uniform("test", (5, 7, 6))
    keys = new_keys(streams, 6, 4)
    expected = (uniforms[..., None] >= log_probs.exp().cumsum(-1)[:, :, None, :, :-1]).sum(-1)
    assert covered_residues(1.0) == coverage_module.RESIDUES
    assert (sample_covered(log_probs, keys, 1.0, uniforms) == expected).float().mean() > 0.999


@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_long_contents_need_no_list(tilt):
    env = SimplifiedEnvironment(
        4, 64, 2.0, vocab_size=16, n_pairs=50, coverage=0.05, seeds=(0,), reference=Tilted(tilt)
    )
    pairs = env.preference_data().train
    assert env.is_covered(pairs.responses).all()
    assert 0.02 < env.is_covered(env.sample_preferences("test", 2000).responses).float().mean() < 0.08
    tokens = env.tokens_to_content(pairs.responses).flatten()
    assert (torch.bincount(tokens, minlength=16) > 0.7 * len(tokens) / 16).all() or tilt


def test_a_token_of_probability_zero_is_never_drawn():
    """Also where a number in [0, 1) is as close to 1 as numbers are."""
    keys = torch.zeros(1, 3, 3, dtype=torch.long)
    keys[0, -1] = torch.tensor([0, 100, 200])
    for share, p in ((0.5, [0.3, 0.4, 0.3]), (0.2, [0.1, 0.1, 0.8]), (0.5, [1e-20, 0.5, 0.5])):
        log_probs = torch.tensor(p).log().expand(1, 1, 3, 3)
        for u in (0.0, 1 - 2**-24):
            content = sample_covered(log_probs, keys, share, torch.full((1, 1, 1, 3), u))
            assert is_covered(keys, share, content).all()
