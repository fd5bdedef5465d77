"""Steps on a device that has no numbers: looking at one, or mixing devices, is an error there."""

import pytest

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.methods.base import Monitor
from alignsim.methods.dpo import dpo_loss
from alignsim.methods.preference_fit import ActiveSeeds, PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.models.linear import Linear
from alignsim.models.made import MADE
from alignsim.models.transformer import Transformer


class Steps(Monitor):
    def finish(self, stage, step, diverged_at):
        self.taken = step


NETWORKS = pytest.mark.parametrize("network", [MADE(n_layers=3), Linear(), Transformer()], ids=["made", "linear", "tf"])


@NETWORKS
def test_supervised_steps_and_a_look_at_the_validation_pairs_wait_for_nothing(network):
    env = SimplifiedEnvironment(3, 4, vocab_size=3, seeds=(0, 1), n_pairs=100, device="meta")

    def loss(policy, pairs):
        return dpo_loss(*policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1), 0.5)

    model = PolicyModel(env, network)
    stack = ActiveSeeds(model, loss, env.preference_data(), PreferenceFitConfig(steps=50, batch_size=20))
    measures = stack.train(10)
    assert stack.step == 10
    assert {tuple(values.shape) for values in measures.values()} == {(2,)}


@NETWORKS
@pytest.mark.parametrize("head", ["tokenwise", "scalar", "implicit"])
def test_rl_waits_for_nothing(network, head):
    looked_at = isinstance(network, MADE) and head == "tokenwise"  # every 50 steps, the same for all
    settings = RLOO(steps=60 if looked_at else 5)
    for vocab_size in (2, 3):
        env = SimplifiedEnvironment(3, 4, vocab_size=vocab_size, seeds=(0, 1), device="meta")
        steps, reward_model = Steps(), RewardModel(env, network, reads="tokens", head=head)
        settings.improve(PolicyModel(env, network), reward_model, 0.5, stage="rl", monitor=steps)
        assert steps.taken == settings.steps
