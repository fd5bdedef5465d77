"""The fast form of the network against the readable one and autograd."""

import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.models.heads import centered_head, log_ratio_head
from alignsim.models.made import MADE
from alignsim.models.made_kernels import differentiable_scores
from alignsim.models.network import to_kernel_layout
from tests.models.worlds import Forbidding, environment, shaken

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
    """Scores and gradients of the network in its readable form."""
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
def test_scores_and_gradients_are_those_of_autograd(network, vocab_size, kind):
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
def test_single_precision_is_right_to_a_millionth(network):
    _, net, parameters, prompts, responses = world(network, 2)
    single = {name: p.float() for name, p in parameters.items()}
    ours, gradients = by_hand(net, single, prompts.float(), responses, centered_head(0.3))
    theirs, exact = by_hand(net, parameters, prompts, responses, centered_head(0.3))
    theirs = theirs.detach()
    assert torch.allclose(ours.detach().double(), theirs, atol=1e-6 * theirs.abs().max().item())
    for gradient, expected in zip(gradients, exact, strict=True):
        assert torch.allclose(gradient.double(), expected, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("vocab_size", [2, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_tree_of_prefixes_gives_the_rewards_of_all(network, vocab_size):
    env = environment(vocab_size=vocab_size)
    prompts, every = env.prompts("test", 5), env.all_responses().expand(2, 5, -1, -1)
    for reads in ("content", "tokens"):
        model = shaken(RewardModel(env, network, reads=reads))
        whole = model.rewards_of_all(prompts)
        assert whole.shape == (2, 5, vocab_size**4)
        assert torch.allclose(whole, model(prompts, every), atol=2e-5)


def test_a_token_that_the_reference_forbids_does_no_harm():
    env = Forbidding(3, 4, 2.0, seeds=(1, 2), n_pairs=400)
    allowed = env.all_responses()[0, 0]
    allowed = allowed[allowed[:, 1] != 0]
    policy = PolicyModel(env)
    leaves = [p.requires_grad_(True) for p in policy.parameters.values()]
    scores = policy.log_ratio(env.prompts("test", 5), allowed.expand(2, 5, -1, -1))
    assert torch.allclose(scores, torch.zeros(()), atol=1e-6)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(scores.sin().sum(), leaves))


def test_weights_must_not_change_before_the_gradient():
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
