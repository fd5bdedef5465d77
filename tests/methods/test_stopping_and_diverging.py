"""Stages that are stopped go on bit for bit; a seed that diverges is marked and touches no other."""

import dataclasses
import io

import pytest
import torch

from alignsim import SimplifiedEnvironment
from alignsim.envs.pairs import PreferenceData, Preferences
from alignsim.methods.base import Monitor
from alignsim.methods.distilled_dpo import DistilledDPO
from alignsim.methods.dpo import DPO
from alignsim.methods.online_dpo import OnlineDPO, OnlinePairsConfig, OracleOnlineDPO
from alignsim.methods.preference_fit import PreferenceFitConfig, fit_to_preferences
from alignsim.methods.raft import RAFT, ImitationConfig
from alignsim.methods.rl.exact_gradient import ExactGradient
from alignsim.methods.rl.grpo import GRPO
from alignsim.methods.rl.ppo import PPO
from alignsim.methods.rl.reinforce import Reinforce
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.models.policy import PolicyModel
from alignsim.runs.condition import Condition, run_condition


class StoppedError(Exception):
    pass


class StopAfter(Monitor):
    """Stops the training at the n-th record."""

    def __init__(self, records):
        self.left = records

    def record(self, stage, step, measures, model):
        self.left -= 1
        if self.left < 0:
            raise StoppedError


class InMemory:
    """A checkpoint as a file would keep it."""

    def __init__(self):
        self.content = None

    def load(self):
        return self.content and torch.load(io.BytesIO(self.content), weights_only=True)

    def save(self, state):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.content = buffer.getvalue()


def env(seeds=(0, 1, 2)):
    return SimplifiedEnvironment(3, 4, 2.0, n_pairs=300, seeds=seeds)


OPTIMIZERS = [RLOO(), Reinforce(), PPO(), GRPO(), ExactGradient()]
SHORT = PreferenceFitConfig(steps=50)
METHODS = {
    "stopping": DPO(PreferenceFitConfig(steps=400, learning_rate=1e-2, validate_every=10, patience=2, batch_size=40)),
    "dpo": DPO(PreferenceFitConfig(steps=160, batch_size=40)),
    **{type(o).__name__: RLHF(SHORT, dataclasses.replace(o, steps=110, prompts_per_step=4)) for o in OPTIMIZERS},
    "online_dpo": OnlineDPO(SHORT, OnlinePairsConfig(steps=110, prompts_per_step=4)),
    "distilled_dpo": DistilledDPO(
        SHORT, PreferenceFitConfig(steps=300, learning_rate=1e-2, validate_every=10, patience=2)
    ),
    "oracle_online_dpo": OracleOnlineDPO(OnlinePairsConfig(steps=160, prompts_per_step=4)),
    "raft": RAFT(SHORT, ImitationConfig(steps=110, steps_per_iteration=40, prompts_per_step=4)),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_stopped_often_gives_the_same_bits(name):
    """A run that is stopped again and again gives the same bits."""
    condition = Condition(METHODS[name], env(seeds=range(6)) if name == "stopping" else env())
    whole = run_condition(condition)
    if name == "stopping":
        last_steps = whole.history.groupby("seed").step.max()
        assert last_steps.nunique() > 1, "seeds leave the stack one by one"
    checkpoint, stops = InMemory(), 0
    while True:
        try:
            outcome = run_condition(condition, StopAfter(1 + stops % 2), checkpoint, checkpoint_every=1e9)
            break
        except StoppedError:
            stops += 1
    assert stops > 2
    assert outcome.results.equals(whole.results)
    assert outcome.history.equals(whole.history)
    for model, parameters in whole.weights().items():
        assert all(torch.equal(p, outcome.weights()[model][name]) for name, p in parameters.items())


class Divergences(Monitor):
    def finish(self, stage, step, diverged_at):
        self.diverged_at = diverged_at.tolist()


def fitted(bad_seed=None, bad_step=None):
    """A DPO-like fit whose loss is not finite for one seed from one step on."""
    policy, steps = PolicyModel(env()), iter(range(1, 10**6))
    broken = torch.zeros(3, 1)

    def loss(policy: PolicyModel, pairs: Preferences):
        if torch.is_grad_enabled() and next(steps) == bad_step:
            broken[bad_seed] = float("inf")
        there = broken[list(policy.env.seeds)]
        return -torch.nn.functional.logsigmoid(policy.log_ratio(pairs.prompts, pairs.responses) @ pair) + there

    pair, monitor, data = torch.tensor([1.0, -1.0]), Divergences(), env().preference_data()
    assert isinstance(data, PreferenceData)
    fit_to_preferences(policy, loss, data, PreferenceFitConfig(steps=80, batch_size=40), stage="fit", monitor=monitor)
    return policy, monitor.diverged_at


def test_a_diverging_seed_is_marked_and_touches_no_other():
    """A seed that diverges is marked with its step and touches no other."""
    sound, none = fitted()
    policy, diverged_at = fitted(bad_seed=1, bad_step=61)
    assert none == [0, 0, 0]
    assert diverged_at == [0, 61, 0]
    for name, p in sound.parameters.items():
        assert torch.equal(policy.parameters[name][[0, 2]], p[[0, 2]])
    assert int(policy.fit.best_step[1]) <= 60, "its best weights are from before"
    assert all(torch.isfinite(p[1]).all() for p in policy.parameters.values())


def test_rl_on_a_reward_that_is_not_finite_marks_the_seed():
    policy, monitor = PolicyModel(env()), Divergences()
    sound = PolicyModel(env())

    def reward(prompts, responses):
        true = policy.env.reward(prompts, responses)
        return true + torch.tensor([0.0, 0.0, float("nan")]).view(-1, 1, 1)

    settings = RLOO(steps=60)
    settings.improve(policy, reward, 0.5, stage="rl", monitor=monitor)
    settings.improve(sound, sound.env.reward, 0.5, stage="rl", monitor=Monitor())
    assert monitor.diverged_at == [0, 0, 1]
    for name, p in sound.parameters.items():
        assert torch.equal(policy.parameters[name][:2], p[:2])
        assert torch.isfinite(p).all()


def test_weights_that_are_not_finite_are_noticed():
    """Weights that are not finite are noticed though the loss is."""
    from alignsim.methods.optimizer import OptimizerConfig, StackedAdamW

    parameters = {"w": torch.ones(2, 3)}
    optimizer = StackedAdamW(parameters, OptimizerConfig(steps=5, learning_rate=0.1, warmup_steps=0))
    optimizer.step(0, parameters["w"].sum(1))
    optimizer.note_divergence(1, torch.zeros(1, 2))
    assert optimizer.diverged_at.tolist() == [0, 0]
    with torch.no_grad():
        parameters["w"][1, 0] = float("inf")
    optimizer.note_divergence(2, torch.zeros(1, 2))
    optimizer.note_divergence(3, torch.zeros(1, 2))
    assert optimizer.diverged_at.tolist() == [0, 2]


def test_the_optimizer_is_torchs_adamw():
    from alignsim.methods.optimizer import OptimizerConfig, StackedAdamW

    settings = OptimizerConfig(steps=20, learning_rate=0.05, weight_decay=0.1, warmup_steps=5)
    start = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = {"w": start.clone()}, start.clone().requires_grad_(True)
    optimizer = StackedAdamW(ours, settings)
    adamw = torch.optim.AdamW([theirs], weight_decay=0.1, fused=True)
    for step in range(20):
        optimizer.step(step, (ours["w"] ** 4).sum(1))
        adamw.param_groups[0]["lr"] = settings.schedule(step)
        adamw.zero_grad()
        (theirs**4).sum().backward()
        adamw.step()
    assert torch.equal(ours["w"], theirs)
