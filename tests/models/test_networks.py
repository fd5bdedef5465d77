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
from alignsim.methods.losses import bradley_terry_loss, dpo_loss
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.methods.two_stage import train_reward_model
from alignsim.models.config import ModelConfig, RewardModelConfig
from alignsim.models.linear import Linear
from alignsim.models.made import MADE
from alignsim.models.network import Network, ScalarReader, StackedNetwork, token_codes
from alignsim.models.transformer import Transformer
from tests.models.worlds import WORLDS, Alternating, Biased, Forbidding, Various, environment, shaken, with_gradients


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
SIZES = {
    "default made": MADE(),
    "made of one narrow layer": MADE(hidden_dim=4, n_layers=1),
    "made of three layers": MADE(hidden_dim=21, n_layers=3),
    "made without prefix": MADE(autoregressive=False),
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_size = pytest.mark.parametrize("network", (NETWORKS | SIZES).values(), ids=NETWORKS | SIZES)
every_head = pytest.mark.parametrize("head", HEADS)
every_vocabulary = pytest.mark.parametrize("vocab_size", [2, 3])

#: Every network and size in two worlds, and one network in the others.
IN_WORLDS = [
    (network, kind) for network in (NETWORKS | SIZES).values() for kind in (SimplifiedEnvironment, Alternating)
]
IN_WORLDS += [(MADE(hidden_dim=20, n_layers=3), kind) for kind in (Biased, Forbidding, Various)]
in_every_world = pytest.mark.parametrize(("network", "kind"), IN_WORLDS)


def reward_model_of(env, network, head, **changes):
    return RewardModel(env, network, reads=HEADS[head], head=head, **changes)


# A network.


@every_vocabulary
@every_size
def test_a_fresh_policy_is_exactly_the_reference(network, vocab_size):
    env = environment(vocab_size=vocab_size)
    prompts, every = env.prompts("test", 5), env.all_responses().expand(2, 5, -1, -1)
    policy = PolicyModel(env, network)
    assert torch.count_nonzero(policy.network.logits(policy.parameters, prompts, every)) == 0
    assert torch.equal(policy.log_prob(prompts, every), env.reference_log_prob(prompts, every))


@every_vocabulary
@every_size
def test_no_logit_depends_on_its_own_or_a_later_token(network, vocab_size):
    env = environment(vocab_size=vocab_size)
    policy, prompts = shaken(PolicyModel(env, network)), env.prompts("test", 3)
    every = env.all_responses().expand(2, 3, -1, -1)
    logits = policy.network.logits(policy.parameters, prompts, every)
    for t in range(4):
        changed = every.clone()
        changed[..., t] = (changed[..., t] + 1) % vocab_size
        moved = policy.network.logits(policy.parameters, prompts, changed) - logits
        assert moved[..., : t + 1, :].abs().max() < 1e-6
        later = moved[..., t + 1 :, :].abs().amax((0, 1, 2, 4))
        assert (later > 1e-3).all() if getattr(network, "autoregressive", True) else (later < 1e-6).all()


@every_network
def test_shared_responses_score_as_expanded_ones(network):
    env = environment(vocab_size=3)
    prompts, every = env.prompts("test", 5), env.all_responses()
    for score in (shaken(PolicyModel(env, network)).log_ratio, shaken(RewardModel(env, network))):
        assert torch.allclose(score(prompts, every), score(prompts, every.expand(2, 5, -1, -1)), atol=1e-5)


@every_vocabulary
@in_every_world
def test_samples_and_scores_follow_the_readable_logits(network, vocab_size, kind):
    """Token t is the inverse distribution function of its number, given the tokens before it."""
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
def test_a_sampler_follows_parameters_that_are_trained(network):
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
def test_gradients_through_prefixes_and_responses_agree(network, vocab_size, tilt):
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
@in_every_world
def test_the_tree_of_prefixes_gives_the_log_ratios_of_all(network, vocab_size, kind):
    env = environment(vocab_size=vocab_size, kind=kind)
    policy, prompts, every = shaken(PolicyModel(env, network)), env.prompts("test", 5), env.all_responses()
    whole, possible = policy.log_ratio_of_all(prompts), env.reference_log_prob(prompts, every) > -torch.inf
    possible = possible.expand_as(whole)
    assert torch.allclose(whole[possible], policy.log_ratio(prompts, every)[possible], atol=2e-5)
    assert torch.allclose(policy.log_prob(prompts, every).exp().sum(-1), torch.ones(2, 5), atol=1e-5)


@in_every_world
def test_log_ratios_of_tokens_are_those_of_the_logits(network, kind):
    """They and their gradients follow from the readable logits, and they add up to the log-ratio of the response."""
    env = environment(vocab_size=3, kind=kind)
    policy, prompts = shaken(PolicyModel(env, network)), env.prompts("test", 5)
    leaves, responses = with_gradients(policy), env.all_responses()[:, :, ::13].expand(2, 5, -1, -1)
    reference = env.reference_log_probs(prompts, responses).clamp(min=-1e9)
    log_probs = (policy.network.logits(policy.parameters, prompts, responses) + reference).log_softmax(-1)
    by_hand = (log_probs - reference).gather(-1, responses[..., None]).squeeze(-1)
    tokens = policy.token_log_ratio(prompts, responses)
    assert torch.allclose(tokens, by_hand, atol=1e-5)
    assert torch.allclose(tokens.sum(-1), policy.log_ratio(prompts, responses), atol=1e-5)
    for ours, theirs in zip(*(torch.autograd.grad(x.sin().sum(), leaves) for x in (tokens, by_hand)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", WORLDS)
def test_many_samples_follow_the_probabilities(kind):
    """Pearson's chi-square of 20,000 samples for each prompt."""
    env, n = environment(kind=kind, output_dim=3, vocab_size=3), 20000
    policy, prompts, every = shaken(PolicyModel(env)), env.prompts("test", 2), env.all_responses()
    index = (policy.sample(prompts, n) * torch.tensor([9, 3, 1])).sum(-1)
    counts = torch.zeros(2, 2, 27).scatter_add_(-1, index, torch.ones_like(index, dtype=torch.float))
    p = policy.log_prob(prompts, every).exp().nan_to_num(0)
    cells = p * n >= 5
    chi_square = torch.where(cells, (counts - n * p).square() / (n * p), 0).sum(-1)
    assert (chi_square < cells.sum(-1) + 5 * (2 * cells.sum(-1)).sqrt()).all()
    assert (counts[p == 0] == 0).all()


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
def test_a_seed_starts_from_the_same_weights_in_every_model(network):
    alone, among = PolicyModel(environment(seeds=(2,)), network), RewardModel(environment(3.0, seeds=(0, 2)), network)
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


def test_attention_is_that_of_the_textbook():
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
        attended = []
        for head in range(2):
            scores = torch.stack([parts[t][0, head] @ parts[s][1, head] / math.sqrt(4) for s in range(t + 1)])
            attended.append(sum(a * parts[s][2, head] for s, a in enumerate(scores.softmax(0))))
        row = row + layer("block0.mix", torch.cat(attended))
        row = row + layer("block0.down", torch.nn.functional.gelu(layer("block0.up", norm(row))))
        expected.append(layer("output", norm(row)))
    found = policy.network.logits(policy.parameters, prompts, tokens.expand(2, 1, 1, 4))[1, 0, 0]
    assert torch.allclose(found, torch.stack(expected), atol=1e-9)


def test_linear_logits_are_a_sum_over_prompt_and_tokens():
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
def test_a_fresh_reward_is_zero_for_each_response(network, head, vocab_size):
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


VALUES = [(network, head, kind) for network, kind in IN_WORLDS if network not in SIZES.values() for head in HEADS]


@pytest.mark.parametrize(("network", "head", "kind"), VALUES)
def test_soft_optimal_values_are_exact_and_sampled_alike(network, head, kind):
    env = environment(kind=kind)
    reward_model, prompts = shaken(reward_model_of(env, network, head), 0.3), env.prompts("test", 20)
    exact, sampled = (
        soft_optimal_value(reward_model, 0.5, prompts, Evaluation(enumeration_limit=n, samples=500)) for n in (16, 1)
    )
    assert torch.isfinite(exact.value).all()
    assert ((sampled.value - exact.value).abs() < 4 * sampled.standard_error + 1e-5).all()


@pytest.mark.parametrize("kind", WORLDS)
def test_policy_values_are_exact_and_sampled_alike(kind):
    env = environment(kind=kind)
    policy, prompts = shaken(PolicyModel(env), 0.2), env.prompts("test", 20)
    exact, sampled = (policy_value(policy, 0.5, prompts, Evaluation(enumeration_limit=n, samples=500)) for n in (16, 1))
    assert torch.isfinite(exact.value).all()
    assert ((sampled.value - exact.value).abs() < 4 * sampled.standard_error + 1e-5).all()


@pytest.mark.parametrize("network", [MADE(hidden_dim=6), Linear(), Transformer(6, 1, 1, 5)], ids=str)
def test_a_scalar_reward_depends_on_the_last_token(network):
    """It reads the last token as it reads every other one."""
    env = environment(1.0, vocab_size=3)
    reward_model, prompts = shaken(reward_model_of(env, network, "scalar")), env.prompts("test", 3)
    rewards = reward_model(prompts, env.all_responses()).unflatten(-1, (27, 3))
    assert (rewards.std(-1) > 1e-3).all()


def test_a_linear_scalar_reward_is_the_sum_of_logits():
    env = environment(1.0, vocab_size=3)
    reward_model = shaken(reward_model_of(env, Linear(), "scalar", beta=0.3))
    prompts, every = env.prompts("test", 3), env.all_responses().expand(2, 3, -1, -1)
    logits = reward_model.network.logits(reward_model.parameters, prompts, every)
    by_hand = 0.3 * logits.gather(-1, every[..., None]).sum((-1, -2))
    assert torch.allclose(reward_model(prompts, every), by_hand, atol=1e-5)


@every_network
def test_an_implicit_reward_has_its_policy_as_optimum(network):
    env, beta = environment(kind=Alternating), 0.3
    reward_model = shaken(reward_model_of(env, network, "implicit", beta=beta))
    policy, prompts = shaken(PolicyModel(env, network)), env.prompts("test", 10)
    ours = soft_optimal_value(reward_model, beta, prompts, Evaluation())
    theirs = policy_value(policy, beta, prompts, Evaluation())
    assert torch.allclose(ours.value, theirs.value, atol=1e-5)
    responses, log_prob = reward_model.propose(prompts, env.streams.uniform("test", (10, 5, 4)))
    assert torch.allclose(log_prob, policy.log_prob(prompts, responses), atol=1e-5)


def test_the_reward_model_scores_centered_content():
    env = environment(vocab_size=3)
    prompts, every = env.prompts("test", 5), env.all_responses()
    reward_model = shaken(RewardModel(env, beta=0.3), 0.7)
    logits = reward_model.network.logits(reward_model.parameters, prompts, env.tokens_to_content(every))
    centered = logits - logits.mean(-1, keepdim=True)
    content = env.tokens_to_content(every).expand(2, 5, -1, -1)
    by_hand = 0.3 * sum(centered[:, :, :, t].gather(-1, content[..., t, None]).squeeze(-1) for t in range(4))
    assert torch.allclose(reward_model(prompts, every), by_hand, atol=1e-5)
    reads_tokens = RewardModel(env, beta=0.3, reads="tokens")
    reads_tokens.parameters = reward_model.parameters
    assert torch.allclose(reads_tokens(prompts, env.tokens_to_content(every)), by_hand, atol=1e-5)


def test_without_gap_and_prefix_the_loss_is_that_of_dpo():
    env, network, beta = environment(1.0), MADE(autoregressive=False), 0.4
    pairs = env.preference_data().train
    policy, reward_model = shaken(PolicyModel(env, network), 0.7), RewardModel(env, network, beta=beta)
    reward_model.parameters = {name: p.clone() for name, p in policy.parameters.items()}
    losses, gradients = [], []
    for model in (policy, reward_model):
        leaves = with_gradients(model)
        score = model.log_ratio if model is policy else model
        chosen, rejected = score(pairs.prompts, pairs.responses).unbind(-1)
        loss = dpo_loss(chosen, rejected, beta) if model is policy else bradley_terry_loss(chosen, rejected)
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss.sum(), leaves))
    assert torch.allclose(*losses, atol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@every_network
@pytest.mark.parametrize("beta", [0.5, 0.3])
def test_fitting_an_implicit_reward_is_dpo(network, beta):
    """The same losses and the same weights for the same seed: bit for bit where beta is a power of two."""
    env, settings = environment(), PreferenceFitConfig(steps=20, batch_size=40, validate_every=10)
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
def test_every_network_and_head_trains_alone_and_in_a_stack(network, head):
    rlhf = RLHF(PreferenceFitConfig(steps=30, learning_rate=2e-2, batch_size=64), RLOO(steps=10, prompts_per_step=8))
    model = ModelConfig(network, RewardModelConfig(HEADS[head], head))
    results = []
    for stack in ((7, 3), (7,)):
        env = environment(1.0, seeds=stack, n_pairs=800)
        trained = rlhf.train(TrainingInputs(env, env.preference_data(), model, 0.5, Monitor()))
        assert (trained.fit.validation_loss < math.log(2)).any()
        results.append(trained)
    among, alone = results
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
    trained = DPO(PreferenceFitConfig(steps=60, learning_rate=2e-2, batch_size=64)).train(
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


def test_a_scalar_reader_has_one_more_position_by_default():
    reader = Transformer().build_scalar(3, 4, 2, "cpu")
    assert type(reader) is ScalarReader
    assert reader.network.output_dim == 5
