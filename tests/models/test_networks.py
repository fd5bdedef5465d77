"""What every network must be, whatever it is made of, and every head of a reward model on it."""

import math
from functools import partial

import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.envs.references import Tilted
from alignsim.evaluation.value import policy_value, soft_optimal_value
from alignsim.methods.base import Monitor, TrainingInputs
from alignsim.methods.dpo import DPO, train_policy_with_dpo
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.methods.two_stage import train_reward_model
from alignsim.models.config import ModelConfig, RewardModelConfig
from alignsim.models.linear import Linear
from alignsim.models.made import MADE
from alignsim.models.network import Network, ScalarReader, StackedNetwork, token_codes
from alignsim.models.transformer import Transformer


class Minimal(Network):
    """A network as a user would write it first: nothing but its first weights and its logits. It counts tokens."""

    def build(self, input_dim, output_dim, vocab_size, device):
        return MinimalNetwork(input_dim, output_dim, vocab_size, device)


class MinimalNetwork(StackedNetwork):
    def initial_parameters(self, streams):
        seeds, inputs = len(streams.seeds), self.input_dim + self.vocab_size
        first = streams.uniform("weights.first", (inputs, 6)) - 0.5
        return {"first": first, "last": torch.zeros(seeds, 6, self.vocab_size, device=self.device)}

    def logits(self, parameters, prompts, tokens):
        seeds, n_prompts, _ = prompts.shape
        codes = token_codes(tokens, self.vocab_size, prompts.dtype)
        before = (codes.cumsum(3) - codes).expand(seeds, n_prompts, -1, -1, -1)
        x = prompts[:, :, None, None].expand(-1, -1, *before.shape[2:4], -1)
        hidden = torch.einsum("sbkti,sih->sbkth", torch.cat([x, before], -1), parameters["first"]).tanh()
        return torch.einsum("sbkth,shv->sbktv", hidden, parameters["last"])


NETWORKS = {
    "made": MADE(hidden_dim=10),
    "transformer": Transformer(model_dim=8, n_heads=2, hidden_dim=12),
    "transformer of one block and head": Transformer(model_dim=6, n_layers=1, n_heads=1, hidden_dim=5),
    "linear": Linear(),
    "minimal": Minimal(),
}
HEADS = {"tokenwise": "content", "scalar": "content", "implicit": "tokens"}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_head = pytest.mark.parametrize("head", HEADS)
every_vocabulary = pytest.mark.parametrize("vocab_size", [2, 3])


class Alternating(SimplifiedEnvironment):
    """A reference policy that likes to repeat the token before, more so where the prompt's first number is large."""

    def reference_log_probs(self, prompts, responses):
        tokens = responses.expand(*prompts.shape[:2], -1, -1)
        before = torch.nn.functional.one_hot(tokens, self.vocab_size).roll(1, -2).float()
        before[..., 0, :] = 0
        return (before * (1 + prompts[..., :1, None, None].abs())).log_softmax(-1)

    def sample_reference(self, uniforms, prompts):
        return PolicyModel(self).sample(prompts, uniforms=uniforms)


def environment(complexity_factor=2.0, kind=SimplifiedEnvironment, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "vocab_size": 2, "seeds": (1, 2), "n_pairs": 200} | changes
    return kind(complexity_factor=complexity_factor, **settings)


def reward_model_of(env, network, head, **changes):
    return RewardModel(env, network, reads=HEADS[head], head=head, **changes)


def shaken(model, scale=0.5, dtype=torch.float32):
    """The model with every parameter random, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: scale * torch.randn(p.shape, generator=generator) for name, p in model.parameters.items()}
    moved = model.network.masked({name: p + noise[name] for name, p in model.parameters.items()})
    model.parameters = {name: p.to(dtype) for name, p in moved.items()}
    return model


def with_gradients(model):
    for p in model.parameters.values():
        p.requires_grad_(True)
    return list(model.parameters.values())


# A network.


@every_vocabulary
@every_network
def test_a_fresh_policy_is_exactly_the_reference(network, vocab_size):
    env = environment(vocab_size=vocab_size)
    prompts, every = env.prompts("test", 5), env.all_responses().expand(2, 5, -1, -1)
    policy = PolicyModel(env, network)
    assert torch.count_nonzero(policy.network.logits(policy.parameters, prompts, every)) == 0
    assert torch.equal(policy.log_prob(prompts, every), env.reference_log_prob(prompts, every))


@every_vocabulary
@every_network
def test_no_logit_depends_on_its_own_or_a_later_token(network, vocab_size):
    env = environment(vocab_size=vocab_size)
    policy, prompts = shaken(PolicyModel(env, network)), env.prompts("test", 3)
    every = env.all_responses().expand(2, 3, -1, -1)
    logits = policy.network.logits(policy.parameters, prompts, every)
    sees_the_one_before = False
    for t in range(4):
        changed = every.clone()
        changed[..., t] = (changed[..., t] + 1) % vocab_size
        moved = policy.network.logits(policy.parameters, prompts, changed) - logits
        assert moved[..., : t + 1, :].abs().max() < 1e-6
        sees_the_one_before |= bool(moved[..., t + 1 :, :].abs().sum() > 1)
    assert sees_the_one_before


@every_network
def test_shared_responses_score_as_expanded_ones(network):
    env = environment(vocab_size=3)
    prompts, every = env.prompts("test", 5), env.all_responses()
    policy = shaken(PolicyModel(env, network))
    assert torch.allclose(policy.log_ratio(prompts, every), policy.log_ratio(prompts, every.expand(2, 5, -1, -1)))


@every_vocabulary
@every_network
@pytest.mark.parametrize("kind", [SimplifiedEnvironment, Alternating])
def test_what_is_written_is_what_the_readable_logits_say(network, vocab_size, kind):
    """Token t is the inverse distribution function of its number, given the tokens before it; scores are as read."""
    env = environment(vocab_size=vocab_size, kind=kind)
    policy, prompts = shaken(PolicyModel(env, network)), env.prompts("test", 5)
    uniforms = env.streams.uniform("test", (5, 40, 4))
    leaves = with_gradients(policy)
    responses, log_ratio = policy.sampler()(prompts, uniforms)
    logits = policy.network.logits(policy.parameters, prompts, responses)
    below = (logits + env.reference_log_probs(prompts, responses)).softmax(-1).cumsum(-1)[..., :-1]
    clear = ((uniforms[..., None] - below).abs() > 1e-5).all(-1)
    assert torch.equal(((uniforms[..., None] >= below).sum(-1))[clear], responses[clear])
    assert clear.float().mean() > 0.99
    read = policy.log_ratio(prompts, responses)
    assert torch.allclose(log_ratio, read, atol=1e-5)
    for ours, theirs in zip(*(torch.autograd.grad(x.sin().sum(), leaves) for x in (log_ratio, read)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    with torch.no_grad():
        again, unread = policy.sampler()(prompts, uniforms)
    assert torch.equal(again, responses)
    assert torch.allclose(unread, read, atol=1e-5)


@every_network
def test_a_writer_follows_the_parameters_as_they_are_trained(network):
    env = environment()
    policy, prompts = PolicyModel(env, network), env.prompts("test", 4)
    write, uniforms = policy.sampler(), env.streams.uniform("test", (4, 30, 4))
    before, _ = write(prompts, uniforms)
    with torch.no_grad():
        for name, p in shaken(PolicyModel(env, network)).parameters.items():
            policy.parameters[name].copy_(p)
    after, log_ratio = write(prompts, uniforms)
    assert not torch.equal(before, after)
    assert torch.allclose(log_ratio, policy.log_ratio(prompts, after), atol=1e-5)


@every_vocabulary
@every_network
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_the_gradient_through_prefixes_is_that_through_whole_responses(network, vocab_size, tilt):
    env = environment(vocab_size=vocab_size, reference=Tilted(tilt))
    policy = shaken(PolicyModel(env, network))
    prompts, every, leaves = env.prompts("test", 5), env.all_responses().expand(2, 5, -1, -1), with_gradients(policy)
    weights = torch.randn(2, 5, every.shape[2], generator=torch.Generator().manual_seed(1))
    gradients = [
        torch.autograd.grad((weights * log_ratio).sum(), leaves, allow_unused=True)
        for log_ratio in (policy.differentiable_log_ratio_of_all(prompts), policy.log_ratio(prompts, every))
    ]
    for name, ours, theirs in zip(policy.parameters, *gradients, strict=True):
        assert (ours is None) == (theirs is None), name
        assert ours is None or torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4), name
    assert not policy.log_ratio_of_all(prompts).requires_grad


@every_vocabulary
@every_network
@pytest.mark.parametrize("kind", [SimplifiedEnvironment, Alternating])
def test_the_tree_of_prefixes_gives_what_every_single_response_gives(network, vocab_size, kind):
    env = environment(vocab_size=vocab_size, kind=kind)
    policy, prompts, every = shaken(PolicyModel(env, network)), env.prompts("test", 5), env.all_responses()
    whole = policy.log_ratio_of_all(prompts)
    assert torch.allclose(whole, policy.log_ratio(prompts, every), atol=2e-5)
    assert torch.allclose(policy.log_prob(prompts, every).exp().sum(-1), torch.ones(2, 5), atol=1e-5)


@every_network
def test_log_ratios_of_tokens_add_up_to_that_of_the_response(network):
    env = environment(vocab_size=3, kind=Alternating)
    policy, prompts, every = shaken(PolicyModel(env, network)), env.prompts("test", 5), env.all_responses()
    tokens = policy.token_log_ratio(prompts, every)
    assert tokens.shape == (2, 5, 81, 4)
    assert torch.allclose(tokens.sum(-1), policy.log_ratio(prompts, every), atol=1e-5)


@every_network
def test_the_gradient_of_a_log_ratio_is_its_finite_difference(network):
    env = environment(vocab_size=3)
    policy, prompts = shaken(PolicyModel(env, network), dtype=torch.float64), env.prompts("test", 4).double()
    responses = env.sample_reference(env.streams.uniform("test", (4, 3, 4)), prompts)
    start, generator = policy.parameters, torch.Generator().manual_seed(1)
    way = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in start.items()}
    way = policy.network.masked(way)

    def loss(step):
        policy.parameters = {name: p + step * way[name] for name, p in start.items()}
        return policy.log_ratio(prompts, responses).sin().sum()

    slope = ((loss(1e-6) - loss(-1e-6)) / 2e-6).item()
    policy.parameters = {name: p.clone() for name, p in start.items()}
    leaves = with_gradients(policy)
    gradients = torch.autograd.grad(policy.log_ratio(prompts, responses).sin().sum(), leaves)
    along = sum((g * way[name]).sum().item() for name, g in zip(policy.parameters, gradients, strict=True))
    assert along == pytest.approx(slope, rel=1e-6)


@every_network
def test_the_same_seed_starts_from_the_same_weights_in_every_model(network):
    alone, among = PolicyModel(environment(seeds=(2,)), network), PolicyModel(environment(3.0, seeds=(0, 2)), network)
    for name, p in alone.parameters.items():
        assert torch.equal(p[0], among.parameters[name][1])


@every_network
def test_a_response_may_be_a_single_token(network):
    env = environment(1.0, output_dim=1, vocab_size=3)
    policy, prompts = PolicyModel(env, network), env.prompts("test", 4)
    leaves = with_gradients(policy)
    responses, log_ratio = policy.sampler()(prompts, env.streams.uniform("test", (4, 5, 1)))
    assert responses.shape == (2, 4, 5, 1)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(log_ratio.sum(), leaves))
    assert torch.allclose(policy.log_ratio_of_all(prompts), torch.zeros(()))


def test_the_transformers_attention_is_that_of_the_textbook():
    """One block, written with loops over positions and heads for one seed, prompt and response."""
    env, config = environment(vocab_size=3), Transformer(model_dim=8, n_layers=1, n_heads=2, hidden_dim=5)
    policy = shaken(PolicyModel(env, config), dtype=torch.float64)
    prompts, tokens = env.prompts("test", 1).double(), torch.tensor([2, 0, 1, 1])
    w = {name: p[1] for name, p in policy.parameters.items()}

    def norm(row):
        return (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()

    def layer(name, row):
        return row @ w[f"{name}.weight"] + w.get(f"{name}.bias", 0)

    code = (torch.eye(3, dtype=torch.float64) - 1 / 3) / (2 / 9) ** 0.5
    rows = [layer("prompt", prompts[1, 0]), *(code[token] @ w["token.weight"] for token in tokens[:-1])]
    rows = [row + w["position.weight"][t] for t, row in enumerate(rows)]
    parts = [layer("block0.attention", norm(row)).view(3, 2, 4) for row in rows]
    expected = []
    for t, row in enumerate(rows):
        read = []
        for head in range(2):
            scores = torch.stack([parts[t][0, head] @ parts[s][1, head] / math.sqrt(4) for s in range(t + 1)])
            read.append(sum(a * parts[s][2, head] for s, a in enumerate(scores.softmax(0))))
        row = row + layer("block0.mix", torch.cat(read))
        row = row + layer("block0.down", torch.nn.functional.gelu(layer("block0.up", norm(row))))
        expected.append(layer("output", norm(row)))
    found = policy.network.logits(policy.parameters, prompts, tokens.expand(2, 1, 1, 4))[1, 0, 0]
    assert torch.allclose(found, torch.stack(expected), atol=1e-9)


def test_the_linear_networks_logits_are_a_sum_over_the_prompt_and_the_tokens():
    env = environment(vocab_size=3)
    policy, prompts = shaken(PolicyModel(env, Linear()), dtype=torch.float64), env.prompts("test", 2).double()
    w, logits = policy.parameters, policy.network.logits
    texts = [0, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0], [1, 2, 0, 0]
    zero, a, b, both = (torch.tensor(text).expand(2, 2, 1, 4) for text in texts)
    at = partial(logits, w, prompts)
    assert torch.allclose(at(both) - at(zero), at(a) + at(b) - 2 * at(zero))
    half = logits(w, prompts / 2, both)
    assert torch.allclose(half * 2, at(both) + logits(w, 0 * prompts, both))


# A head of a reward model.


@every_vocabulary
@every_network
@every_head
def test_a_fresh_reward_is_zero_and_one_number_for_each_response(network, head, vocab_size):
    env = environment(vocab_size=vocab_size)
    prompts, every = env.prompts("test", 5), env.all_responses()
    reward_model = reward_model_of(env, network, head)
    assert torch.count_nonzero(reward_model(prompts, every)) == 0
    rewards = shaken(reward_model)(prompts, every)
    assert rewards.shape == (2, 5, vocab_size**4)
    assert len(rewards[0, 0].unique()) > 4


@every_vocabulary
@every_network
@every_head
@pytest.mark.parametrize("kind", [SimplifiedEnvironment, Alternating])
def test_the_rewards_of_all_responses_are_those_of_each(network, head, vocab_size, kind):
    env = environment(vocab_size=vocab_size, kind=kind)
    reward_model, prompts = shaken(reward_model_of(env, network, head, beta=0.3)), env.prompts("test", 5)
    every = env.all_responses().expand(2, 5, -1, -1)
    assert torch.allclose(reward_model.rewards_of_all(prompts), reward_model(prompts, every), atol=2e-5)


@every_network
@every_head
def test_the_gradient_of_a_reward_is_its_finite_difference(network, head):
    env = environment(vocab_size=3)
    reward_model, prompts = shaken(reward_model_of(env, network, head), dtype=torch.float64), env.prompts("test", 4)
    prompts, view = prompts.double(), reward_model.view(env.all_responses()[:, :, ::7].expand(2, 4, -1, -1))
    start, generator = reward_model.parameters, torch.Generator().manual_seed(1)
    way = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in start.items()}
    way = reward_model.network.masked(way)

    def loss(step):
        reward_model.parameters = {name: p + step * way[name] for name, p in start.items()}
        return reward_model.reward_of_view(prompts, view).sin().sum()

    slope = ((loss(1e-6) - loss(-1e-6)) / 2e-6).item()
    reward_model.parameters = {name: p.clone() for name, p in start.items()}
    leaves = with_gradients(reward_model)
    gradients = torch.autograd.grad(reward_model.reward_of_view(prompts, view).sin().sum(), leaves)
    along = sum((g * way[name]).sum().item() for name, g in zip(reward_model.parameters, gradients, strict=True))
    assert along == pytest.approx(slope, rel=1e-6)


@every_network
@every_head
@pytest.mark.parametrize("kind", [SimplifiedEnvironment, Alternating])
def test_the_soft_optimal_value_is_exact_and_sampled_alike(network, head, kind):
    env = environment(kind=kind)
    reward_model, prompts = shaken(reward_model_of(env, network, head), 0.3), env.prompts("test", 20)
    exact, sampled = (
        soft_optimal_value(reward_model, 0.5, prompts, Evaluation(enumeration_limit=n, samples=500)) for n in (16, 1)
    )
    assert ((sampled.value - exact.value).abs() < 4 * sampled.standard_error + 1e-5).all()


@pytest.mark.parametrize("network", [MADE(hidden_dim=6), Linear(), Transformer(6, 1, 1, 5)], ids=str)
def test_a_scalar_reward_may_be_any_function_of_the_last_token_too(network):
    """The last token is read as every other one: it matters to the reward."""
    env = environment(1.0, vocab_size=3)
    reward_model, prompts = shaken(reward_model_of(env, network, "scalar")), env.prompts("test", 3)
    rewards = reward_model(prompts, env.all_responses()).unflatten(-1, (27, 3))
    assert (rewards.std(-1) > 1e-3).all()


def test_a_linear_scalar_reward_has_the_features_of_the_policy_and_no_normalizer():
    env = environment(1.0, vocab_size=3)
    reward_model = shaken(reward_model_of(env, Linear(), "scalar", beta=0.3))
    prompts, every = env.prompts("test", 3), env.all_responses().expand(2, 3, -1, -1)
    logits = reward_model.network.logits(reward_model.parameters, prompts, every)
    by_hand = 0.3 * logits.gather(-1, every[..., None]).sum((-1, -2))
    assert torch.allclose(reward_model(prompts, every), by_hand, atol=1e-5)


@every_network
def test_an_implicit_rewards_soft_optimal_policy_is_the_policy_that_implies_it(network):
    env, beta = environment(kind=Alternating), 0.3
    reward_model = shaken(reward_model_of(env, network, "implicit", beta=beta))
    policy, prompts = shaken(PolicyModel(env, network)), env.prompts("test", 10)
    ours = soft_optimal_value(reward_model, beta, prompts, Evaluation())
    theirs = policy_value(policy, beta, prompts, Evaluation())
    assert torch.allclose(ours.value, theirs.value, atol=1e-5)
    responses, log_prob = reward_model.propose(prompts, env.streams.uniform("test", (10, 5, 4)))
    assert torch.allclose(log_prob, policy.log_prob(prompts, responses), atol=1e-5)


@every_network
@pytest.mark.parametrize("beta", [0.5, 0.3])
def test_fitting_an_implicit_reward_is_dpo(network, beta):
    """The same losses and the same weights for the same seed: bit for bit where beta is a power of two."""
    env, settings = environment(), PreferenceFitConfig(steps=50, batch_size=40, validate_every=10)
    model = ModelConfig(network, RewardModelConfig(reads="tokens", head="implicit"))
    policy = train_policy_with_dpo(env, beta=beta, model=model, settings=settings)
    reward_model = train_reward_model(env, beta=beta, model=model, settings=settings)
    same = torch.equal if beta == 0.5 else partial(torch.allclose, atol=1e-4)
    assert same(policy.fit.validation_loss, reward_model.fit.validation_loss)
    assert (policy.fit.best_step > 0).all()
    for name, p in policy.parameters.items():
        assert same(p, reward_model.parameters[name]), name


@every_network
@every_head
def test_every_network_and_head_trains_and_a_seed_alone_is_that_seed_among_others(network, head):
    rlhf = RLHF(PreferenceFitConfig(steps=50, learning_rate=1e-2), RLOO(steps=20, prompts_per_step=8))
    model = ModelConfig(network, RewardModelConfig(HEADS[head], head))
    found = []
    for stack in ((7, 3), (7,)):
        env = environment(1.0, seeds=stack, n_pairs=800)
        trained = rlhf.train(TrainingInputs(env, env.preference_data(), model, 0.5, Monitor()))
        assert (trained.fit.validation_loss < math.log(2)).any()
        found.append(trained)
    among, alone = found
    for name, p in alone.policy.parameters.items():
        assert torch.allclose(p[0], among.policy.parameters[name][0], atol=2e-3), name
    rewards = [
        trained.reward_model.rewards_of_all(trained.policy.env.prompts("test", 3))[0] for trained in (alone, among)
    ]
    centered = [of_all - of_all.mean() for of_all in rewards]  # no pair decides the mean
    assert torch.allclose(*centered, atol=1e-4)
    assert centered[0].std() > 0.001


@every_network
def test_dpo_improves_every_network(network):
    env = environment(1.0, n_pairs=1000)
    trained = DPO(PreferenceFitConfig(steps=100, learning_rate=1e-2)).train(
        TrainingInputs(env, env.preference_data(), ModelConfig(network), 0.5, Monitor())
    )
    value = policy_value(trained.policy, 0.5, env.prompts("evaluation", 50), Evaluation()).value
    assert (value > 0.1 * env.optimal_value(0.5)).all()


def test_a_reward_model_may_have_a_network_of_its_own():
    model = ModelConfig(MADE(hidden_dim=16), RewardModelConfig(network=Transformer(6, 1, 1, 5)))
    env = environment()
    assert "hidden0.weight" in model.new_policy(env).parameters
    assert model.new_reward_model(env, 0.5).parameters["block0.up.weight"].shape == (2, 6, 5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"head": "implicit"}, "must be tokenwise or scalar where reads=content"),
        ({"head": "pairwise"}, "must be tokenwise, scalar, implicit"),
    ],
)
def test_a_head_that_cannot_be_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        RewardModel(environment(), **changes)


def test_by_default_one_number_is_read_after_the_last_token_by_one_more_position():
    reader = Transformer().build_scalar(3, 4, 2, "cpu")
    assert type(reader) is ScalarReader
    assert reader.network.output_dim == 5
