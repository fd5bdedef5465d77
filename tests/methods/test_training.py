import dataclasses

import pytest
import torch

from alignsim import (
    PolicyModel,
    RewardModel,
    SimplifiedEnvironment,
    train_policy_with_dpo,
    train_policy_with_rlhf,
    train_reward_model,
)
from alignsim.config.schema import Evaluation
from alignsim.evaluation.value import policy_value
from alignsim.methods.base import Monitor
from alignsim.methods.losses import rloo_loss
from alignsim.methods.optimizer import OptimizerConfig
from alignsim.methods.preference_fit import Minibatches, PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO

SHORT = PreferenceFitConfig(steps=60, batch_size=32)


def environment(complexity_factor=2.0, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "seeds": (0, 1), "n_pairs": 400} | changes
    return SimplifiedEnvironment(complexity_factor=complexity_factor, **settings)


def normalized_value(policy, beta=0.5):
    prompts = policy.env.prompts("evaluation", 200)
    return policy_value(policy, beta, prompts, Evaluation()).value / policy.env.optimal_value(beta, prompts)


def test_the_rloo_gradient_is_unbiased():
    """Its mean over many batches is the exact gradient, by enumeration, within its standard error."""
    env, beta, n_prompts, samples = environment(seeds=(0,)), 0.5, 4, 3
    policy = PolicyModel(env)
    generator = torch.Generator().manual_seed(0)
    noise = {name: 0.1 * torch.randn(p.shape, generator=generator) for name, p in policy.parameters.items()}
    policy.parameters = policy.network.masked({name: p + noise[name] for name, p in policy.parameters.items()})
    leaves = [
        policy.parameters[name].requires_grad_(True) for name in ("output.weight", "hidden1.weight", "hidden0.weight")
    ]
    x, every = env.prompts("test", n_prompts), env.all_responses()
    log_prob = policy.log_prob(x, every)
    log_ratio = log_prob - env.reference_log_prob(x, every.expand(1, n_prompts, -1, -1))
    objective = (log_prob.exp() * (env.reward(x, every) - beta * log_ratio)).sum(-1).mean()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(-objective, leaves)])

    estimates = []
    for block in range(600):
        responses, log_ratio = policy.sampler()(x, env.streams.uniform("test", (n_prompts, samples, 4), block))
        loss = rloo_loss(env.reward(x, responses), log_ratio, beta)
        estimates.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss.sum(), leaves)]))
    estimates = torch.stack(estimates)
    standard_error = estimates.std(0) / len(estimates) ** 0.5
    moving = standard_error > 1e-4
    z = ((estimates.mean(0) - exact) / standard_error)[moving]
    assert moving.sum() > 100
    assert z.abs().max() < 5
    assert 0.3 < z.square().mean() < 2.5  # its entries are far from independent


def test_rl_on_the_true_reward_reaches_the_closed_form_optimum():
    env = environment(1.5)
    settings = RLOO(steps=800, learning_rate=1e-2, samples_per_prompt=8)
    policy = train_policy_with_rlhf(env, env.reward, beta=1.0, settings=settings)
    assert (normalized_value(policy, beta=1.0) > 0.97).all()
    prompts, every = env.prompts("test", 50), env.all_responses()
    optimal = env.optimal_log_prob(1.0, prompts, every.expand(2, 50, -1, -1)).exp()
    total_variation = (policy.log_prob(prompts, every).exp() - optimal).abs().sum(-1).mean() / 2
    assert total_variation < 0.1


def test_dpo_with_many_pairs_and_no_gap_reaches_the_optimum():
    env = environment(1.0, n_pairs=40000)
    policy = train_policy_with_dpo(env, settings=PreferenceFitConfig(steps=1500, learning_rate=3e-3))
    assert (normalized_value(policy) > 0.97).all()


def test_a_reward_model_is_the_same_at_every_complexity():
    reference = train_reward_model(environment(1.0), settings=SHORT)
    for factor in (1.5, 2.0, 4.0):
        reward_model = train_reward_model(environment(factor), settings=SHORT)
        for name, p in reward_model.parameters.items():
            assert torch.equal(p, reference.parameters[name])
        assert torch.equal(reward_model.fit.best_step, reference.fit.best_step)


def train(method, env):
    rl = RLOO(steps=60, prompts_per_step=8)
    trainers = {
        "dpo": lambda: train_policy_with_dpo(env, settings=SHORT),
        "reward_model": lambda: train_reward_model(env, settings=SHORT),
        "rlhf": lambda: train_policy_with_rlhf(env, train_reward_model(env, settings=SHORT), settings=rl),
    }
    return trainers[method]().parameters


@pytest.mark.parametrize("method", ["dpo", "reward_model", "rlhf"])
def test_a_seed_alone_equals_that_seed_among_others(method):
    alone, among = (train(method, environment(seeds=seeds)) for seeds in ((7,), tuple(range(16))))
    for name, p in alone.items():
        assert torch.allclose(p[0], among[name][7], atol=2e-4), name
    assert not torch.allclose(alone["hidden0.weight"][0], among["hidden0.weight"][8], atol=0.1)


def test_a_seed_that_leaves_changes_no_bit_of_others():
    """Seeds that stop early are cut out of the stack; the rest trains on as if they were still there."""
    quick = PreferenceFitConfig(steps=300, learning_rate=1e-2, validate_every=10, patience=3)
    alone = [train_policy_with_dpo(environment(seeds=(seed, 99)), settings=quick) for seed in range(4)]
    among = train_policy_with_dpo(environment(seeds=(0, 1, 2, 3)), settings=quick)
    for seed, policy in enumerate(alone):
        assert policy.fit.best_step[0] == among.fit.best_step[seed]
        for name, p in policy.parameters.items():
            assert torch.equal(p[0], among.parameters[name][seed]), name


@pytest.mark.parametrize("method", ["dpo", "reward_model", "rlhf"])
def test_a_repeated_run_is_the_same_bit_for_bit(method):
    first, second = (train(method, environment()) for _ in range(2))
    for name, p in first.items():
        assert torch.equal(p, second[name])


def test_methods_see_the_same_pairs_in_the_same_order():
    data = environment(1.0).preference_data().train
    again = environment(2.0).preference_data().train
    every = [Minibatches(pairs, environment().streams, 50) for pairs in (data, again)]
    batches, others = ([minibatches.batch(step) for step in range(12)] for minibatches in every)
    assert [len(batch) for batch in batches] == [50] * 12
    for ours, theirs in zip(batches, others, strict=True):
        assert torch.equal(ours.prompts, theirs.prompts)
        assert torch.equal(ours.responses, environment(2.0).tokens_to_content(theirs.responses))
    epoch = torch.cat([batch.prompts for batch in batches[:6]], dim=1)  # 320 pairs: 6 whole batches, 20 left out
    assert len(torch.unique(epoch[0], dim=0)) == 300


class Curves(Monitor):
    """Keeps what it hears."""

    def __init__(self):
        self.heard = []

    def record(self, stage, step, measures, model):
        self.heard.append((step, model.env.seeds, {name: value.clone() for name, value in measures.items()}))

    def of(self, seed, measure):
        """The steps at which a seed was looked at, and what was seen."""
        heard = [(step, measures[measure][seeds.index(seed)]) for step, seeds, measures in self.heard if seed in seeds]
        return list(zip(*heard, strict=True))


def test_the_result_is_the_best_checkpoint_of_each_seed():
    """The weights kept are those of the best validation loss of each seed."""
    env, curves = environment(seeds=(0, 1, 2, 3), n_pairs=120), Curves()
    settings = PreferenceFitConfig(steps=400, learning_rate=1e-2, validate_every=10, patience=4)
    policy = train_policy_with_dpo(env, settings=settings, monitor=curves)
    last_steps = []
    for seed in range(4):
        steps, losses = curves.of(seed, "validation_loss")
        vain, best, best_step = 0, losses[0], 0
        for step, loss in zip(steps[1:], losses[1:], strict=True):  # what the loop is said to do, one seed at a time
            assert vain < 4, "a seed that has stopped improving is looked at no more"
            vain, best, best_step = (0, loss, step) if loss < best else (vain + 1, best, best_step)
        assert policy.fit.validation_loss[seed] == best
        assert policy.fit.best_step[seed] == best_step
        assert vain == 4, "every seed had stopped improving"
        last_steps.append(steps[-1])
    assert max(last_steps) < 400, "and so the loop ended early"
    assert len(set(last_steps)) > 1, "they left the stack one by one"
    pairs = env.preference_data().validation
    chosen, rejected = policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1)
    kept = -torch.nn.functional.logsigmoid(0.5 * (chosen - rejected)).mean(1)
    assert torch.allclose(kept, policy.fit.validation_loss, atol=1e-5)


def test_the_reward_model_is_never_changed_by_rl():
    env = environment()
    reward_model = train_reward_model(env, settings=SHORT)
    before = {name: p.clone() for name, p in reward_model.parameters.items()}
    train_policy_with_rlhf(env, reward_model, settings=RLOO(steps=20))
    assert all(torch.equal(p, before[name]) for name, p in reward_model.parameters.items())


def test_a_constant_reward_leaves_the_policy_at_the_reference():
    env = environment()
    policy = train_policy_with_rlhf(env, RewardModel(env), settings=RLOO(steps=100))
    prompts = env.prompts("test", 20)
    value = policy_value(policy, 0.5, prompts, Evaluation())
    assert (value.kl < 1e-2).all()


def test_the_learning_rate_schedule():
    """The learning rate warms up and falls along a half cosine."""
    settings = OptimizerConfig(steps=110, learning_rate=0.2, warmup_steps=10)
    assert settings.schedule(0) == pytest.approx(0.02)
    assert settings.schedule(9) == pytest.approx(0.2)
    assert settings.schedule(10) == pytest.approx(0.2)
    assert settings.schedule(60) == pytest.approx(0.1)
    assert settings.schedule(109) < 1e-4
    assert all(dataclasses.replace(settings, warmup_steps=w).schedule(5) > 0 for w in (0, 5, 110, 500))
