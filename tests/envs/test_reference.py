import dataclasses
import itertools

import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.envs.labels import Deterministic
from alignsim.envs.references import Tilted
from alignsim.evaluation.measures import measure
from alignsim.evaluation.value import policy_value, reference_value, soft_optimal_value
from alignsim.methods.base import TrainingResult
from alignsim.methods.dpo import DPO
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.models.base import FitSummary
from alignsim.runs.condition import Condition, run_condition

SEEDS = (0, 3)
GRID = pytest.mark.parametrize(
    ("vocab_size", "complexity_factor", "tilt"), list(itertools.product((2, 3), (1.0, 2.0, 2.5), (-0.7, 0.4)))
)


def tilted(tilt=0.5, complexity_factor=2.0, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "vocab_size": 3, "seeds": SEEDS, "n_pairs": 200} | changes
    return SimplifiedEnvironment(complexity_factor=complexity_factor, reference=Tilted(tilt), **settings)


@GRID
def test_token_by_token_it_says_the_same(vocab_size, complexity_factor, tilt):
    env = tilted(tilt, complexity_factor, vocab_size=vocab_size)
    prompts, every = env.prompts("test", 5), env.all_responses()
    whole = env.reference_log_probs(prompts, every)
    for conditionals in (env.reference_conditionals(prompts), Environment.reference_conditionals(env, prompts)):
        assert conditionals.fixed is None
        for t in range(4):
            assert torch.equal(conditionals.after(every[..., :t]), whole[..., t, :])


def test_a_uniform_reference_depends_on_the_position_alone():
    env = tilted(0.0)
    for conditionals in (env.reference_conditionals(None), Environment.reference_conditionals(env, None)):
        assert torch.allclose(conditionals.fixed.exp(), torch.full((4, 3), 1 / 3))
        after = conditionals.after(torch.zeros(1, 1, 1, 2, dtype=torch.long))
        assert torch.allclose(after.exp(), torch.full((3,), 1 / 3))


class Flipped:
    """Another reference policy, to be mixed in."""

    def reference_log_probs(self, prompts, responses):
        return super().reference_log_probs(prompts, responses).flip(-1)


class WithProduct(SimplifiedEnvironment):
    """Contents that are read in another way: a token plus the product of the two before it."""

    def before(self, tokens, t):
        return tokens[..., t - 1] * tokens[..., t - 2] if t > 1 else torch.zeros_like(tokens[..., t])

    def tokens_to_content(self, responses):
        read = [responses[..., t] + self.before(responses, t) for t in range(self.output_dim)]
        return torch.stack(read, -1) % self.vocab_size

    def content_to_tokens(self, content):
        written = content.clone()
        for t in range(self.output_dim):
            written[..., t] = (content[..., t] - self.before(written, t)) % self.vocab_size
        return written


@pytest.mark.parametrize("bases", [(Flipped, SimplifiedEnvironment), (WithProduct,), (Flipped, WithProduct)])
def test_a_redefined_reference_is_asked_token_by_token(bases):
    """A reference that is redefined is asked token by token too."""
    env = type("Another", bases, {})(3, 4, 2.0, vocab_size=3, reference=Tilted(0.4))
    prompts, every = env.prompts("test", 5), env.all_responses()
    assert torch.equal(env.content_to_tokens(env.tokens_to_content(every)), every)
    conditionals, whole = env.reference_conditionals(prompts), env.reference_log_probs(prompts, every)
    assert torch.allclose(whole.exp().sum(-1), torch.ones(1))
    for t in range(4):
        assert torch.equal(conditionals.after(every[..., :t]), whole[..., t, :])


def listed(env, n_prompts=20):
    """Prompts, every response to each, their true rewards and log-probabilities under the reference by definition."""
    prompts = env.prompts("test", n_prompts)
    every = env.all_responses().expand(len(env.seeds), n_prompts, -1, -1)
    rewards = env.reward(prompts, every)
    return prompts, every, rewards, (env.reference.tilt * rewards).log_softmax(-1)


@GRID
def test_the_conditionals_multiply_to_the_tilted_reference(vocab_size, complexity_factor, tilt):
    """The steps of the reference multiply to a tilt by the true reward."""
    env = tilted(tilt, complexity_factor, vocab_size=vocab_size)
    prompts, every, _, log_ref = listed(env)
    steps = env.reference_log_probs(prompts, every)
    assert steps.shape == (*every.shape, vocab_size)
    assert torch.allclose(steps.logsumexp(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(env.reference_log_prob(prompts, every), log_ref, atol=1e-4)
    assert torch.equal(env.reference_log_probs(prompts, env.all_responses()), steps)
    for t in range(env.output_dim):
        later = every.clone()
        later[..., t:] = 0
        assert torch.equal(env.reference_log_probs(prompts, later)[..., t, :], steps[..., t, :])


@GRID
@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_tilted_optimum_and_value_equal_enumeration(vocab_size, complexity_factor, tilt, beta):
    """The optimum and the value of a tilted reference equal enumeration."""
    env = tilted(tilt, complexity_factor, vocab_size=vocab_size)
    prompts, every, rewards, log_ref = listed(env)
    log_z = (log_ref + rewards / beta).logsumexp(-1)
    assert torch.allclose(env.optimal_value(beta, prompts), beta * log_z.mean(1), rtol=1e-4)
    best = env.optimal_log_prob(beta, prompts, every)
    assert torch.allclose(best, log_ref + rewards / beta - log_z[..., None], atol=1e-4)
    value = (best.exp() * (rewards - beta * (best - log_ref))).sum(-1).mean(1)
    assert torch.allclose(value, env.optimal_value(beta, prompts), rtol=1e-4)
    mean_reward = (log_ref.exp() * rewards).sum(-1).mean(1)
    assert torch.allclose(env.reference_value(prompts), mean_reward, atol=1e-5)
    assert (mean_reward * tilt > 0).all()


def test_a_tilt_is_the_inverse_of_a_beta():
    """A tilt is the inverse beta of the optimal policy of a uniform reference."""
    prompts, every, _, log_ref = listed(tilted(0.5))
    assert torch.allclose(tilted(0.0).optimal_log_prob(2.0, prompts, every), log_ref, atol=1e-4)


def test_a_tilt_of_almost_zero_is_almost_the_uniform_reference():
    almost, uniform = tilted(1e-7), tilted(0.0)
    prompts, every, _, _ = listed(uniform)
    log_probs = [env.reference_log_probs(prompts, every).expand(*every.shape, 3) for env in (almost, uniform)]
    assert torch.allclose(*log_probs, atol=1e-5)
    assert torch.allclose(almost.optimal_value(0.5), uniform.optimal_value(0.5), atol=1e-4)
    assert torch.equal(uniform.reference_value(prompts), torch.zeros(2))
    noise = uniform.streams.uniform("test", (20, 50, 4))
    assert (almost.sample_reference(noise, prompts) == uniform.sample_reference(noise, prompts)).float().mean() > 0.99


@pytest.mark.parametrize("vocab_size", [2, 3])
@pytest.mark.parametrize("tilt", [-1.0, 0.5])
def test_samples_follow_the_tilted_reference(vocab_size, tilt):
    env, n = tilted(tilt, 2.5, vocab_size=vocab_size), 20000
    prompts, _, _, log_ref = listed(env, 3)
    drawn = env.sample_reference(env.streams.uniform("test", (3, n, 4)), prompts)
    written = PolicyModel(env).sample(prompts, n)  # a fresh policy is the reference
    for responses in (drawn, written):
        index = (responses * vocab_size ** torch.arange(3, -1, -1)).sum(-1)
        counts = torch.zeros_like(log_ref).scatter_add_(-1, index, torch.ones_like(index, dtype=torch.float))
        expected = n * log_ref.exp()
        chi_square = ((counts - expected).square() / expected).sum(-1)
        free = vocab_size**4 - 1
        assert (chi_square < free + 6 * (2 * free) ** 0.5).all()


def test_tilted_worlds_differ_in_tokens_alone():
    """Under a tilt all but the tokens is the same at every complexity."""
    base = tilted(0.5, 1.0)
    prompts, pairs = base.prompts("test", 50), base.preference_data().train
    for factor in (1.5, 2.0, 4.0):
        env = tilted(0.5, factor)
        assert torch.equal(env.tokens_to_content(env.preference_data().train.responses), pairs.responses)
        assert torch.equal(env.optimal_value(0.5, prompts), base.optimal_value(0.5, prompts))
        assert torch.equal(env.reference_value(prompts), base.reference_value(prompts))


def test_a_tilt_moves_the_reference_and_not_the_true_reward():
    toward, uniform, away = (tilted(tilt) for tilt in (0.5, 0.0, -0.5))
    assert torch.equal(toward.reward_weights, uniform.reward_weights)
    toward, uniform, away = (
        env.reward(pairs.prompts, pairs.responses).mean((1, 2))
        for env in (toward, uniform, away)
        for pairs in [env.preference_data().train]
    )
    assert (toward > uniform + 0.5).all()
    assert (uniform > away + 0.5).all()


class Unknown(SimplifiedEnvironment):
    """A world that does not know the value of its reference policy."""

    def reference_value(self, prompts):
        return None


def test_an_unknown_reference_value_is_measured():
    """Where the value of the reference is not known it is enumerated or sampled."""
    known = tilted(0.5)
    prompts = known.prompts("test", 50)
    env = Unknown(**{f.name: getattr(known, f.name) for f in dataclasses.fields(known)})
    assert torch.allclose(reference_value(env, prompts, Evaluation()), known.reference_value(prompts), atol=1e-4)
    sampled = reference_value(env, prompts, Evaluation(enumeration_limit=1, samples=2000))
    assert torch.allclose(sampled, known.reference_value(prompts), atol=4 * 2 / 100000**0.5)


@pytest.mark.parametrize("tilt", [-0.5, 0.5])
def test_the_normalized_value_of_a_tilted_reference_is_zero(tilt):
    env = tilted(tilt)
    policy = PolicyModel(env)
    fit = FitSummary(torch.zeros(2), torch.zeros(2))
    measures = measure(TrainingResult(policy, fit, policy.log_ratio), env, 0.5, Evaluation(prompts=50, pairs=50))
    assert torch.allclose(measures["normalized_value"], torch.zeros(2), atol=1e-4)
    assert torch.allclose(measures["value"], measures["reference_value"], atol=1e-4)
    assert (measures["reference_value"] * tilt > 0).all()


@pytest.mark.parametrize("reads", ["content", "tokens"])
@pytest.mark.parametrize("tilt", [-0.5, 0.5])
def test_values_under_a_tilt_are_sampled_as_they_are_enumerated(tilt, reads):
    env = tilted(tilt)
    policy, reward_model, prompts = PolicyModel(env), RewardModel(env, reads=reads), env.prompts("test", 20)
    for model in (policy, reward_model):
        generator = torch.Generator().manual_seed(0)
        noisy = {name: p + 0.3 * torch.randn(p.shape, generator=generator) for name, p in model.parameters.items()}
        model.parameters = model.network.masked(noisy)
    for value, model in ((policy_value, policy), (soft_optimal_value, reward_model)):
        exact, sampled = (value(model, 0.5, prompts, Evaluation(enumeration_limit=n, samples=2000)) for n in (81, 1))
        assert (sampled.standard_error > 0).all()
        assert ((sampled.value - exact.value).abs() < 4 * sampled.standard_error).all()
        assert torch.allclose(sampled.kl, exact.kl, rtol=0.05)


def test_without_prefix_the_proposal_is_soft_optimal():
    """Content is proposed by the soft optimal policy where the learned reward has no prefix."""
    env = tilted(0.7)
    reward_model, prompts = RewardModel(env), env.prompts("test", 5)
    reward_model.parameters["output.bias"] = env.streams.normal("test", (12,))
    responses, log_proposal = reward_model.propose(prompts, env.streams.uniform("test", (5, 50, 4)))
    log_weights = env.reference_log_prob(prompts, responses) + reward_model(prompts, responses) / 0.5 - log_proposal
    assert torch.allclose(log_weights, log_weights[..., :1].expand_as(log_weights), atol=1e-4)


OPTIONS = [
    {"reference": Tilted(0.5)},
    {"reference": Tilted(-0.5)},
    {"coverage": 0.5},
    {"coverage": 0.5, "reference": Tilted(0.5)},
    {"labels": Deterministic(0.2)},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("method", ["dpo", "rlhf"])
def test_both_methods_learn_in_every_kind_of_world(method, option):
    env = SimplifiedEnvironment(3, 6, 1.0, n_pairs=2000, seeds=SEEDS, **option)
    fit = PreferenceFitConfig(steps=150, learning_rate=6e-3)
    methods = {"dpo": DPO(fit), "rlhf": RLHF(fit, RLOO(steps=150, learning_rate=2e-2))}
    outcome = run_condition(Condition(methods[method], env, evaluation=Evaluation(prompts=100, pairs=100)))
    assert not outcome.results.diverged.any()
    assert outcome.results.normalized_value.between(0.3, 1).all()
    final = outcome.history.dropna(subset="normalized_value").groupby("seed").normalized_value.last()
    assert (final > 0.3).all()
