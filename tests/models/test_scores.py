"""The fast form of the network against the readable one and autograd."""

import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.evaluation.value import policy_value, soft_optimal_value
from alignsim.models.heads import centered_head, log_ratio_head
from alignsim.models.made import MADE
from alignsim.models.made_kernels import differentiable_scores
from alignsim.models.network import to_kernel_layout

NETWORKS = [MADE(), MADE(hidden_dim=5, n_layers=1), MADE(hidden_dim=21, n_layers=3), MADE(autoregressive=False)]


def double(parameters, scale=0.5):
    """Random parameters of double precision, as trained ones could be."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: scale * torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in parameters.items()
    }


def world(network, vocab_size):
    env = SimplifiedEnvironment(3, 4, 2.0, vocab_size=vocab_size, seeds=(1, 2))
    net = PolicyModel(env, network).network
    parameters = net.masked(double(net.initial_parameters(env.streams)))
    responses = env.sample_reference(env.streams.uniform("test", (7, 3, 4)), env.prompts("test", 7))
    return env, net, parameters, env.prompts("test", 7).double(), responses


def by_autograd(net, parameters, prompts, responses, score):
    """Scores and gradients of the network as one would write it down."""
    leaves = {name: p.clone().requires_grad_(True) for name, p in parameters.items()}
    tokens = torch.nn.functional.one_hot(responses, net.vocab_size).double()
    scores = score(net.logits(leaves, prompts, responses), tokens)
    return scores, torch.autograd.grad((scores**2).sum(), list(leaves.values()))


def by_hand(net, parameters, prompts, responses, head):
    leaves = {name: p.clone().requires_grad_(True) for name, p in parameters.items()}
    with torch.no_grad():
        logits, activations = net.kernels.forward(leaves, prompts, responses)
    scores = differentiable_scores(net.kernels, leaves, logits, activations, head)
    return scores, torch.autograd.grad((scores**2).sum(), list(leaves.values()))


@pytest.mark.parametrize("vocab_size", [2, 3])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["log ratio", "reward"])
def test_scores_and_their_hand_derived_gradient_are_those_of_autograd(network, vocab_size, kind):
    _, net, parameters, prompts, responses = world(network, vocab_size)
    reference = torch.randn(2, 7, 3, 4, vocab_size, dtype=torch.float64).log_softmax(-1)
    heads = {"log ratio": log_ratio_head(to_kernel_layout(reference)), "reward": centered_head(0.3)}
    readable = {
        "log ratio": lambda logits, tokens: (((logits + reference).log_softmax(-1) - reference) * tokens).sum((-1, -2)),
        "reward": lambda logits, tokens: 0.3 * ((logits - logits.mean(-1, keepdim=True)) * tokens).sum((-1, -2)),
    }
    ours, gradients = by_hand(net, parameters, prompts, responses, heads[kind])
    theirs, expected = by_autograd(net, parameters, prompts, responses, readable[kind])
    assert ours.shape == (2, 7, 3)
    assert torch.allclose(ours, theirs, atol=1e-12)
    for gradient, by_torch in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, by_torch, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
def test_in_single_precision_the_gradient_is_autograds_to_a_millionth(network):
    _, net, parameters, prompts, responses = world(network, 2)
    single = {name: p.float() for name, p in parameters.items()}
    ours, gradients = by_hand(net, single, prompts.float(), responses, centered_head(0.3))
    theirs, exact = by_hand(net, parameters, prompts, responses, centered_head(0.3))
    theirs = theirs.detach()
    assert torch.allclose(ours.detach().double(), theirs, atol=1e-6 * theirs.abs().max().item())
    for gradient, expected in zip(gradients, exact, strict=True):
        assert torch.allclose(gradient.double(), expected, atol=1e-6 * float(expected.abs().max()))


class Alternating(SimplifiedEnvironment):
    """A reference policy that likes to repeat the token before, more so where the prompt's first number is large."""

    def reference_log_probs(self, prompts, responses):
        tokens = responses.expand(*prompts.shape[:2], -1, -1)
        before = torch.nn.functional.one_hot(tokens, self.vocab_size).roll(1, -2).float()
        before[..., 0, :] = 0
        return (before * (1 + prompts[..., :1, None, None].abs())).log_softmax(-1)


class Biased(SimplifiedEnvironment):
    """A reference policy with the same preference for later tokens everywhere, said in the smallest shape."""

    def reference_log_probs(self, prompts, responses):
        return torch.arange(self.vocab_size).float().log_softmax(-1)


class Forbidding(SimplifiedEnvironment):
    """A reference policy that never writes token 0 in the second position."""

    def reference_log_probs(self, prompts, responses):
        allowed = torch.zeros(self.output_dim, self.vocab_size)
        allowed[1, 0] = -torch.inf
        return allowed.log_softmax(-1)


class Various(SimplifiedEnvironment):
    """A reference policy of each seed's own."""

    def reference_log_probs(self, prompts, responses):
        return self.streams.normal("reference", (1, 1, 1, self.vocab_size)).log_softmax(-1)


WORLDS = [SimplifiedEnvironment, Alternating, Biased, Forbidding, Various]


@pytest.mark.parametrize("vocab_size", [2, 3])
@pytest.mark.parametrize("env_class", WORLDS)
def test_what_is_written_is_scored_as_it_would_be_read(env_class, vocab_size):
    env = env_class(3, 4, 2.0, vocab_size=vocab_size, seeds=(1, 2))
    policy = PolicyModel(env, MADE(hidden_dim=20, n_layers=3))
    policy.parameters = policy.network.masked({name: p.float() for name, p in double(policy.parameters).items()})
    leaves = [p.requires_grad_(True) for p in policy.parameters.values()]
    prompts = env.prompts("test", 5)
    responses, log_ratio = policy.sampler()(prompts, env.streams.uniform("test", (5, 50, 4)))
    assert len(torch.unique(responses)) == vocab_size
    read = policy.log_ratio(prompts, responses)
    assert torch.allclose(log_ratio, read, atol=1e-5)
    for ours, theirs in zip(*(torch.autograd.grad(x.sin().sum(), leaves) for x in (log_ratio, read)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("env_class", WORLDS)
def test_log_ratios_of_tokens_are_those_of_the_readable_network(env_class):
    env = env_class(3, 4, 2.0, vocab_size=3, seeds=(1, 2))
    policy = PolicyModel(env, MADE(hidden_dim=20))
    policy.parameters = policy.network.masked({name: p.float() for name, p in double(policy.parameters).items()})
    leaves = [p.requires_grad_(True) for p in policy.parameters.values()]
    prompts, responses = env.prompts("test", 5), env.sample_reference(env.streams.uniform("test", (5, 6, 4)), None)
    reference = env.reference_log_probs(prompts, responses).clamp(min=-1e9)
    log_probs = (policy.network.logits(policy.parameters, prompts, responses) + reference).log_softmax(-1)
    by_hand = (log_probs - reference).gather(-1, responses[..., None]).squeeze(-1)
    ours = policy.token_log_ratio(prompts, responses)
    assert torch.allclose(ours, by_hand, atol=1e-5)
    for mine, theirs in zip(*(torch.autograd.grad(x.sin().sum(), leaves) for x in (ours, by_hand)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("env_class", WORLDS)
def test_samples_follow_a_reference_that_depends_on_the_prefix(env_class):
    env = env_class(3, 3, 2.0, vocab_size=3, seeds=(1,))
    prompts, every, n = env.prompts("test", 2), env.all_responses(), 20000
    samples = PolicyModel(env).sample(prompts, n)
    index = (samples * torch.tensor([9, 3, 1])).sum(-1)
    counts = torch.zeros(1, 2, 27).scatter_add_(-1, index, torch.ones_like(index, dtype=torch.float))
    p = env.reference_log_prob(prompts, every).exp().expand_as(counts)
    chi_square = torch.where(p > 0, (counts - n * p).square() / (n * p), counts).sum(-1)
    assert (chi_square < 26 + 5 * 52**0.5).all()


@pytest.mark.parametrize("vocab_size", [2, 3])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("env_class", WORLDS)
def test_the_tree_of_prefixes_gives_what_every_single_response_gives(env_class, network, vocab_size):
    env = env_class(3, 4, 2.0, vocab_size=vocab_size, seeds=(1, 2))
    prompts, every = env.prompts("test", 5), env.all_responses().expand(2, 5, -1, -1)
    for model in (PolicyModel(env, network), RewardModel(env, network), RewardModel(env, network, reads="tokens")):
        model.parameters = model.network.masked({name: p.float() for name, p in double(model.parameters).items()})
        whole = model.log_ratio_of_all(prompts) if isinstance(model, PolicyModel) else model.rewards_of_all(prompts)
        single = model.log_ratio(prompts, every) if isinstance(model, PolicyModel) else model(prompts, every)
        assert whole.shape == (2, 5, vocab_size**4)
        possible = env.reference_log_prob(prompts, every).expand_as(whole) > -torch.inf
        assert torch.allclose(whole[possible], single[possible], atol=2e-5)


@pytest.mark.parametrize("env_class", WORLDS)
def test_values_are_exact_and_sampled_alike_whatever_the_reference(env_class):
    env = env_class(3, 4, 2.0, seeds=(1, 2))
    policy, reward_model, prompts = PolicyModel(env), RewardModel(env), env.prompts("test", 20)
    for model in (policy, reward_model):
        model.parameters = model.network.masked({name: p.float() for name, p in double(model.parameters, 0.2).items()})
    for value, model in ((policy_value, policy), (soft_optimal_value, reward_model)):
        exact, sampled = (value(model, 0.5, prompts, Evaluation(enumeration_limit=n, samples=500)) for n in (16, 1))
        assert torch.isfinite(exact.value).all()
        assert ((sampled.value - exact.value).abs() < 4 * sampled.standard_error + 1e-5).all()


def test_a_token_that_the_reference_forbids_does_no_harm():
    env = Forbidding(3, 4, 2.0, seeds=(1, 2), n_pairs=400)
    allowed = env.all_responses()[0, 0]
    allowed = allowed[allowed[:, 1] != 0]
    policy = PolicyModel(env)
    leaves = [p.requires_grad_(True) for p in policy.parameters.values()]
    scores = policy.log_ratio(env.prompts("test", 5), allowed.expand(2, 5, -1, -1))
    assert torch.allclose(scores, torch.zeros(()), atol=1e-6)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(scores.sin().sum(), leaves))


def test_the_weights_of_a_pass_must_not_change_before_its_gradient():
    _, net, parameters, prompts, responses = world(MADE(), 2)
    leaves = {name: p.requires_grad_(True) for name, p in parameters.items()}
    with torch.no_grad():
        passed = net.kernels.forward(leaves, prompts, responses)
    scores = differentiable_scores(net.kernels, leaves, *passed, centered_head(1.0))
    with torch.no_grad():
        leaves["output.weight"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        scores.sum().backward()


def test_the_gradient_of_a_pass_can_be_taken_once():
    _, net, parameters, prompts, responses = world(MADE(), 2)
    leaves = {name: p.requires_grad_(True) for name, p in parameters.items()}
    with torch.no_grad():
        passed = net.kernels.forward(leaves, prompts, responses)
    total = differentiable_scores(net.kernels, leaves, *passed, centered_head(1.0)).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="was taken before"):
        total.backward()
