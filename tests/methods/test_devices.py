"""Steps on a device that has no numbers: looking at one, or mixing devices, is an error there."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.methods.base import Monitor
from alignsim.methods.losses import dpo_loss
from alignsim.methods.preference_fit import ActiveSeeds, PreferenceFitConfig, fit_to_preferences
from alignsim.methods.rl.rloo import RLOO
from alignsim.models.linear import Linear
from alignsim.models.made import MADE
from alignsim.models.transformer import Transformer


class Steps(Monitor):
    def finish(self, stage, step, diverged_at):
        self.taken = step


def steps_and_check(active, loss, n_steps):
    """Gradient steps and a check of the validation pairs, without the question that the loop asks between them."""
    losses = []
    for step in range(n_steps):
        losses.append(loss(active.model, active.minibatches.batch(step)).mean(1))
        active.optimizer.step(step, losses[-1])
    return active.validate(torch.stack(losses).detach())


class Waits(TorchDispatchMode):
    """Counts how often a number is looked at."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_the_fit_waits_once_for_each_check():
    """As often with ten steps between two checks as with one."""

    def waits(between):
        env = SimplifiedEnvironment(3, 4, seeds=(0, 1), n_pairs=100)
        config = PreferenceFitConfig(steps=4 * between, batch_size=20, validate_every=between)
        with Waits() as counted:
            fit_to_preferences(PolicyModel(env), dpo, env.preference_data(), config, stage="fit", monitor=Monitor())
        return counted.count

    assert 0 < waits(1) == waits(10)


def dpo(policy, pairs):
    return dpo_loss(*policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1), 0.5)


NETWORKS = pytest.mark.parametrize("network", [MADE(n_layers=3), Linear(), Transformer()], ids=["made", "linear", "tf"])


@NETWORKS
def test_steps_and_the_check_of_a_fit_wait_for_nothing(network):
    env = SimplifiedEnvironment(3, 4, vocab_size=3, seeds=(0, 1), n_pairs=100, device="meta")
    stack = ActiveSeeds(PolicyModel(env, network), dpo, env.preference_data(), PreferenceFitConfig(batch_size=20))
    measures = steps_and_check(stack, dpo, n_steps=10)
    assert stack.step == 10
    assert {tuple(values.shape) for values in measures.values()} == {(2,)}


@NETWORKS
@pytest.mark.parametrize("head", ["tokenwise", "scalar", "implicit"])
def test_rl_waits_for_nothing(network, head):
    reports = isinstance(network, MADE) and head == "tokenwise"  # every 50 steps, the same for all
    for vocab_size in (2, 3):
        settings = RLOO(steps=51 if reports and vocab_size == 2 else 2)
        env = SimplifiedEnvironment(3, 4, vocab_size=vocab_size, seeds=(0, 1), device="meta")
        steps, reward_model = Steps(), RewardModel(env, network, reads="tokens", head=head)
        settings.improve(PolicyModel(env, network), reward_model, 0.5, stage="rl", monitor=steps)
        assert steps.taken == settings.steps
