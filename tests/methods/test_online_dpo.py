import dataclasses

import pytest
import torch

from alignsim import PolicyModel, SimplifiedEnvironment, train_reward_model
from alignsim.methods.base import Monitor
from alignsim.methods.losses import labeled_dpo_loss
from alignsim.methods.online_dpo import OnlineDPO, OnlinePairsConfig, OracleOnlineDPO, fit_to_own_pairs
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.raft import RAFT, ImitationConfig, imitate_best
from alignsim.runs.condition import Condition, run_condition
from tests.methods.test_stopping_and_diverging import Divergences

SHORT, STEPS = PreferenceFitConfig(steps=60), OnlinePairsConfig(steps=60, prompts_per_step=8)
IMITATION = ImitationConfig(steps=60, steps_per_iteration=25, prompts_per_step=8)
METHODS = {"online_dpo": OnlineDPO(SHORT, STEPS), "oracle": OracleOnlineDPO(STEPS), "raft": RAFT(SHORT, IMITATION)}


def environment(seeds=(0, 1), **changes):
    return SimplifiedEnvironment(3, 4, 2.0, n_pairs=200, seeds=seeds, **changes)


def expected_gradient(log_policy, log_reference, rewards, beta, labels):
    """Of the loss by the logits of every response, over all pairs that the policy writes and all labels, (M,)."""
    logits = log_policy.clone().requires_grad_(True)
    log_ratio = logits.log_softmax(0) - log_reference
    responses = len(rewards)
    first, second = (side.flatten() for side in torch.meshgrid(*2 * [torch.arange(responses)], indexing="ij"))
    written = (log_policy[first] + log_policy[second]).exp()
    pair = torch.stack([first, second], -1)[None]
    if labels == "expected":
        loss = labeled_dpo_loss(rewards[pair], log_ratio[pair], beta)[0]
    else:  # each label by the probability that a coin gives it
        p_first = torch.sigmoid(rewards[first] - rewards[second])
        chosen = [
            labeled_dpo_loss(rewards[pair], log_ratio[pair], beta, coins)[0] for coins in (-p_first, 1 + 0 * p_first)
        ]
        loss = p_first * chosen[0] + (1 - p_first) * chosen[1]
    (gradient,) = torch.autograd.grad((written * loss).sum(), logits)
    return gradient


@pytest.mark.parametrize("labels", ["sampled", "expected"])
def test_the_optimal_policy_alone_is_stationary(labels):
    """The optimal policy is stationary and the reference is not."""
    generator, beta = torch.Generator().manual_seed(0), 0.7
    rewards, reference = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    reference = reference.log_softmax(0)
    optimal = (reference + rewards / beta).log_softmax(0)
    assert expected_gradient(optimal, reference, rewards, beta, labels).abs().max() < 1e-12
    assert expected_gradient(reference, reference, rewards, beta, labels).abs().max() > 1e-3


def test_expected_labels_are_the_mean_over_sampled_ones():
    generator = torch.Generator().manual_seed(0)
    rewards, log_ratio = torch.randn(2, 3, 5, 2, generator=generator)
    grid = ((torch.arange(4000) + 0.5) / 4000)[:, None, None].expand(-1, 3, 5)
    sampled = labeled_dpo_loss(rewards.expand(4000, -1, -1, -1), log_ratio.expand(4000, -1, -1, -1), 0.5, grid)
    assert torch.allclose(sampled.mean(0), labeled_dpo_loss(rewards, log_ratio, 0.5), atol=1e-3)


@pytest.mark.parametrize(("fit", "settings"), [(fit_to_own_pairs, STEPS), (imitate_best, IMITATION)])
def test_a_reward_of_the_prompt_changes_nothing(fit, settings):
    """A function of the prompt added to the reward changes nothing."""
    env = environment()

    def trained(offset):
        def reward(prompts, responses):  # in sixteenths, so that no sum is rounded
            rewards = (16 * env.reward(prompts, responses)).round() / 16
            return rewards + offset * prompts.sum(-1, keepdim=True).round()

        policy = PolicyModel(env)
        fit(policy, reward, settings, beta=0.5, monitor=Monitor())
        return policy.parameters

    without, with_it = trained(0), trained(8)
    assert without["output.weight"].abs().max() > 0.01
    for name, p in without.items():
        assert torch.equal(p, with_it[name]), name


def test_the_reward_model_is_that_of_rlhf():
    env = environment()
    ours, theirs = run_condition(Condition(METHODS["online_dpo"], env)).trained, train_reward_model(env, settings=SHORT)
    for name, p in theirs.parameters.items():
        assert torch.equal(p, ours.reward_model.parameters[name])
    assert torch.equal(ours.fit.best_step, theirs.fit.best_step)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_alone_equals_that_seed_among_others(name):
    alone = run_condition(Condition(METHODS[name], environment((5,)))).results
    among = run_condition(Condition(METHODS[name], environment(range(8)))).results
    measures = ["value", "kl", "reward"]
    assert alone[measures].iloc[0].to_list() == pytest.approx(among[measures].iloc[5].to_list(), abs=1e-3)
    assert alone["value"][0] != pytest.approx(among["value"][6], abs=1e-3)


def test_on_the_true_reward_it_comes_close_to_the_optimum():
    """Online dpo on the true reward comes close to the optimum."""
    env = SimplifiedEnvironment(3, 4, 1.5, seeds=(0, 1), n_pairs=10)
    method = OracleOnlineDPO(OnlinePairsConfig(steps=400, learning_rate=2e-2, labels="expected"))
    for beta in (0.5, 2.0):
        results = run_condition(Condition(method, env, beta=beta)).results
        assert (results.normalized_value > 0.95).all(), beta


@pytest.mark.parametrize("labels", ["sampled", "expected"])
def test_a_reward_that_is_not_finite_marks_its_seed(labels):
    env, monitor = environment((0, 1, 2)), Divergences()

    def reward(prompts, responses):
        return env.reward(prompts, responses) + torch.tensor([0.0, float("nan"), 0.0]).view(-1, 1, 1)

    settings = dataclasses.replace(STEPS, labels=labels)
    fit_to_own_pairs(PolicyModel(env), reward, settings, beta=0.5, monitor=monitor)
    assert monitor.diverged_at == [0, 1, 0]


@pytest.mark.parametrize(("fit", "settings"), [(fit_to_own_pairs, STEPS), (imitate_best, IMITATION)])
def test_steps_wait_for_nothing(fit, settings):
    """On a device that has no numbers looking at one is an error."""
    env = SimplifiedEnvironment(3, 4, seeds=(0, 1), device="meta")
    fit(PolicyModel(env), env.reward, settings, beta=0.5, monitor=Monitor())
