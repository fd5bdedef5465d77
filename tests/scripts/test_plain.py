"""The plain way computes what alignsim computes."""

import dataclasses

import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.cli.arguments import checked_command_line
from alignsim.config.schema import Evaluation
from alignsim.envs.pairs import Preferences
from alignsim.envs.rng import Streams
from alignsim.evaluation.value import policy_value
from alignsim.methods.losses import bradley_terry_loss, dpo_loss
from alignsim.models.made import MADE
from alignsim.runs.job import condition_of
from alignsim.runs.train_config import load
from scripts.benchmarking import comparison, plain, stacked

BETA, NETWORK = 0.5, MADE(hidden_dim=12, n_layers=3)
LAYERS = ("hidden0", "hidden1", "hidden2", "output")


@pytest.fixture
def env() -> SimplifiedEnvironment:
    return SimplifiedEnvironment(3, 4, complexity_factor=1.5, n_pairs=40, seeds=(5,))


@pytest.fixture
def pairs(env) -> Preferences:
    return env.sample_preferences("some pairs", 10)


def in_plain_layout(named):
    """What alignsim has for each of its parameters (weights, or gradients) in the layout of a plain network: the one
    place that knows how alignsim names and lays them out."""
    return [named[f"{layer}.{kind}"][0].t() for layer in LAYERS for kind in ("weight", "bias")]


def with_equal_weights(model, env):
    """A plain network with the weights of a stacked model of one seed, which get a last layer that is not zero."""
    drawn = Streams(env.seeds)
    for name in ("output.weight", "output.bias"):
        model.parameters[name] = drawn.normal(name, model.parameters[name].shape[1:]) / 4
    model.parameters = model.network.masked(model.parameters)
    network = plain.PlainMADE(env, NETWORK, torch.Generator())
    for parameter, weights in zip(network.parameters(), in_plain_layout(model.parameters), strict=True):
        parameter.data = weights.clone()
    return network


def assert_same_loss_and_gradient(model, loss, network, plain_loss):
    """Equal in value, and by every weight; `loss` is called once the weights of `model` want a gradient."""
    leaves = {name: p.requires_grad_() for name, p in model.parameters.items()}
    ours = loss()
    torch.testing.assert_close(plain_loss, ours)
    expected = dict(zip(leaves, torch.autograd.grad(ours, list(leaves.values())), strict=True))
    gradients = torch.autograd.grad(plain_loss, list(network.parameters()))
    for mine, theirs in zip(gradients, in_plain_layout(expected), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_log_probabilities_dpo_loss_and_gradient_are_alignsims(env, pairs):
    policy = PolicyModel(env, NETWORK)
    network = with_equal_weights(policy, env)
    x, y = pairs.prompts[0], pairs.responses[0]
    log_probs = network.log_prob(x.repeat_interleave(2, 0), y.flatten(0, 1)).view(-1, 2)
    torch.testing.assert_close(log_probs, policy.log_prob(pairs.prompts, pairs.responses)[0])

    def loss():
        return dpo_loss(*policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1), BETA).mean()

    assert_same_loss_and_gradient(policy, loss, network, plain.dpo_loss(network, BETA)(x, y).mean())


def test_rewards_their_loss_and_gradient_are_alignsims(env, pairs):
    reward_model = RewardModel(env, NETWORK, beta=BETA)
    network = with_equal_weights(reward_model, env)

    def loss():
        return bradley_terry_loss(*reward_model(pairs.prompts, pairs.responses).unbind(-1)).mean()

    plain_loss = plain.bradley_terry_loss(network, env, BETA)(pairs.prompts[0], pairs.responses[0]).mean()
    assert_same_loss_and_gradient(reward_model, loss, network, plain_loss)


def test_the_value_is_alignsims(env):
    policy, evaluation = PolicyModel(env, NETWORK), Evaluation(prompts=20)
    network = with_equal_weights(policy, env)
    expected = policy_value(policy, BETA, env.prompts("evaluation", 20), evaluation).value.item()
    assert plain.policy_value(network, env, BETA, evaluation) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_fresh_network_is_the_uniform_reference(env, pairs):
    network = plain.PlainMADE(env, NETWORK, torch.Generator())
    log_probs = network.log_prob(pairs.prompts[0], pairs.responses[0, :, 0])
    torch.testing.assert_close(log_probs, torch.full((10,), -4 * torch.tensor(2.0).log().item()))


def test_samples_follow_the_probabilities(env):
    network = with_equal_weights(PolicyModel(env, NETWORK), env)
    prompt, responses = torch.ones(1, 3), env.all_responses()[0, 0]
    drawn = network.sample(prompt.repeat(20_000, 1), torch.Generator().manual_seed(1))
    counts = (drawn[:, None] == responses).all(-1).float().mean(0)
    expected = network.log_prob(prompt.repeat(len(responses), 1), responses).exp().detach()
    assert (counts - expected).abs().max() < 0.015  # four standard deviations of a share of a half


def test_the_stack_is_the_plain_network_of_each_seed(env):
    three = dataclasses.replace(env, seeds=(0, 1, 2))
    network = stacked.StackedMADE(three, NETWORK)
    generator = torch.Generator().manual_seed(0)
    each = [plain.PlainMADE(three, NETWORK, generator) for _ in three.seeds]
    last = Streams(three.seeds).normal("last", network.weights[-1].shape[1:])
    network.weights[-1].data = last
    x, y = three.prompts("x", 6), env.all_responses()[0, :, :6].expand(3, -1, -1)
    for seed, model in enumerate(each):
        model.layers[-1].weight.data = last[seed].t()
        torch.testing.assert_close(network(x, y)[seed], model(x[seed], y[seed]))


def test_the_plain_comparison_has_the_same_conditions():
    """Those of the command line."""
    jobs = checked_command_line(list(comparison.COMMAND), "train", load).jobs
    commanded = [condition_of(job.config, [7], "cpu") for job in jobs]
    of_ours = comparison.conditions((7,), "cpu").values()
    assert sorted(map(str, of_ours)) == sorted(map(str, commanded))
