"""What every way to improve a policy has in common, and where each of them is exact."""

import dataclasses
import itertools
import math

import pytest
import torch

from alignsim import PolicyModel, SimplifiedEnvironment, train_policy_with_rlhf
from alignsim.config.problems import ConfigurationError
from alignsim.config.schema import Evaluation
from alignsim.envs.references import Tilted
from alignsim.evaluation.value import policy_value
from alignsim.methods.losses import (
    clipped_surrogate,
    generalized_advantage,
    group_normalized_advantage,
    k3_kl,
    leave_one_out_advantage,
)
from alignsim.methods.on_policy import Batch
from alignsim.methods.rl.exact_gradient import ExactGradient, expectations
from alignsim.methods.rl.grpo import GRPO
from alignsim.methods.rl.ppo import PPO, token_rewards
from alignsim.methods.rl.reinforce import Reinforce
from alignsim.methods.rl.rloo import RLOO
from alignsim.models.critic import ValueModel

OPTIMIZERS = [RLOO(), Reinforce(), PPO(), GRPO(), ExactGradient()]
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
SAMPLES = 4


def environment(seeds=(0,), **changes):
    return SimplifiedEnvironment(
        **{"input_dim": 3, "output_dim": 3, "complexity_factor": 2.0, "n_pairs": 300} | changes, seeds=seeds
    )


def moved(model, scale=0.3):
    """A model away from its start."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: scale * torch.randn(p.shape, generator=generator) for name, p in model.parameters.items()}
    model.parameters = model.network.masked({name: p + noise[name] for name, p in model.parameters.items()})
    for p in model.parameters.values():
        p.requires_grad_(True)
    return model


def gradient(loss, model):
    parts = torch.autograd.grad(loss.sum(), list(model.parameters.values()), allow_unused=True)
    return torch.cat([g.flatten() for g in parts if g is not None])


def batch(policy, prompts, block, reward, samples=SAMPLES):
    env = policy.env
    uniforms = env.streams.uniform("test", (prompts.shape[1], samples, env.output_dim), block)
    responses, log_ratio = policy.sampler()(prompts, uniforms)
    critic = moved(ValueModel.beside(policy))
    return Batch(policy, prompts, responses, reward(prompts, responses), log_ratio, critic)


def exact_loss(policy, prompts, beta):
    rewards, divergence = expectations(policy, policy.env.reward, prompts)
    return (beta * divergence - rewards).mean()


class Tabular:
    """A policy with a free log-probability for every response to every prompt."""

    def __init__(self, env, prompts, log_prob):
        self.env = env
        self.log_prob = log_prob.clone().requires_grad_(True)
        self.reference = env.reference_log_prob(prompts, env.all_responses().expand(*prompts.shape[:2], -1, -1))

    def differentiable_log_ratio_of_all(self, prompts):
        return self.log_prob.log_softmax(-1) - self.reference


def test_the_exact_gradient_is_zero_at_the_optimum_alone():
    """The exact gradient is zero at the closed form optimum and not beside it."""
    env, beta = environment(seeds=(0, 1)), 0.5
    x = env.prompts("test", 5)
    optimum = env.optimal_log_prob(beta, x, env.all_responses().expand(2, 5, -1, -1))
    for log_prob, at_optimum in ((optimum, True), (optimum * 0.9, False)):
        policy = Tabular(env, x, log_prob)
        (slope,) = torch.autograd.grad(exact_loss(policy, x, beta), policy.log_prob)
        assert (slope.abs().max() < 1e-6) == at_optimum


def test_the_expectations_are_the_value_of_the_policy():
    policy = moved(PolicyModel(environment(seeds=(0, 1))))
    x = policy.env.prompts("test", 5)
    rewards, divergence = expectations(policy, policy.env.reward, x)
    value = policy_value(policy, 0.5, x, Evaluation()).value
    assert torch.allclose((rewards - 0.5 * divergence).mean((1, 2)).double(), value.double(), atol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "factor"),
    [
        (RLOO(), 1),
        (Reinforce(), 1),
        (PPO(gae_lambda=1.0), 1),
        (GRPO(normalize_std=False), (SAMPLES - 1) / SAMPLES),
        (GRPO(normalize_std=False, kl="reward", kl_weight=1.0), (SAMPLES - 1) / SAMPLES),
    ],
    ids=str,
)
def test_the_mean_first_gradient_is_the_exact_one(optimizer, factor):
    """GRPO's without its KL loss, shrunk because a group's mean has the sample in it; PPO's at any value network."""
    policy, beta = moved(PolicyModel(environment())), 1e-9 if getattr(optimizer, "kl", "") == "loss" else 0.5
    x, estimates = policy.env.prompts("test", 4), []
    exact = factor * gradient(exact_loss(policy, x, beta), policy)
    for block in range(500):
        made = batch(policy, x, block, policy.env.reward)
        estimates.append(gradient(optimizer.loss(made, beta), policy))
    estimates = torch.stack(estimates)
    standard_error = estimates.std(0) / len(estimates) ** 0.5
    moving = standard_error > 1e-4
    z = ((estimates.mean(0) - exact) / standard_error)[moving]
    assert moving.sum() > 100
    assert z.abs().max() < 5
    assert z.square().mean() < 2.5  # its entries are far from independent


def test_the_baseline_of_reinforce_is_of_the_batch():
    """The baseline of REINFORCE is the mean of all others of the batch."""
    policy, beta = moved(PolicyModel(environment(seeds=(0, 1)))), 0.5
    made = batch(policy, policy.env.prompts("test", 3), 0, policy.env.reward)
    penalized = (made.rewards - beta * made.log_ratio).detach()
    others = (penalized.sum((1, 2), keepdim=True) - penalized) / (3 * SAMPLES - 1)
    by_hand = -((penalized - others) * made.log_ratio).mean((1, 2))
    assert torch.allclose(Reinforce().loss(made, beta), by_hand, atol=1e-5)


def test_the_value_loss_of_ppo_is_half_a_square():
    """The value network of PPO descends half the squared difference from the returns."""
    policy, beta = moved(PolicyModel(environment(seeds=(0, 1)))), 0.5
    made = batch(policy, policy.env.prompts("test", 3), 0, policy.env.reward)
    x, y = made.prompts, made.responses
    values, ratio = made.critic.values(x, y), policy.token_log_ratio(x, y).detach()
    rewards = token_rewards(made.rewards, ratio.clone(), beta)
    returns = generalized_advantage(rewards, values.detach(), 0.4) + values.detach()
    by_hand = gradient((values - returns).square().sum(-1).mean((1, 2)) / 2, made.critic)
    found = gradient(PPO(gae_lambda=0.4).loss(made, beta), made.critic)
    assert torch.allclose(found, by_hand, atol=1e-5)
    assert by_hand.abs().max() > 0.01


@pytest.mark.parametrize("optimizer", [RLOO(), Reinforce(), PPO(gae_lambda=1.0), PPO(gae_lambda=0.5)], ids=str)
def test_a_reward_of_the_prompt_changes_no_mean(optimizer):
    """Over all responses of the reference policy, each written once: then the mean of a batch is the expectation."""
    env = environment(seeds=(0, 1))
    policy, x = PolicyModel(env), env.prompts("test", 5)
    for p in policy.parameters.values():
        p.requires_grad_(True)
    every = env.all_responses().expand(2, 5, -1, -1)

    def shifted(prompts, responses):
        return env.reward(prompts, responses) + 3 * prompts.sum(-1, keepdim=True)

    found = []
    for reward in (env.reward, shifted):
        ratio, critic = policy.log_ratio(x, every), moved(ValueModel.beside(policy))
        made = Batch(policy, x, every, reward(x, every), ratio, critic)
        found.append(gradient(optimizer.loss(made, 0.5), policy))
    assert torch.allclose(*found, atol=1e-5)
    assert found[0].abs().max() > 0.01


@pytest.mark.parametrize(
    "optimizer", [RLOO(), GRPO(), GRPO(normalize_std=False), GRPO(kl="reward"), ExactGradient()], ids=str
)
def test_a_reward_of_the_prompt_changes_nothing(optimizer):
    """A function of the prompt added to the reward changes nothing."""
    policy = moved(PolicyModel(environment()))
    x, true = policy.env.prompts("test", 4), policy.env.reward

    def shifted(prompts, responses):
        return true(prompts, responses) + 3 * prompts.sum(-1, keepdim=True)

    def loss(reward):
        if isinstance(optimizer, ExactGradient):
            return -expectations(policy, reward, x)[0]
        return optimizer.loss(batch(policy, x, 0, reward), 0.5)

    assert torch.allclose(gradient(loss(true), policy), gradient(loss(shifted), policy), atol=2e-4)


@pytest.mark.parametrize("optimizer", [PPO(), GRPO()], ids=lambda o: type(o).__name__)
def test_clipping_begins_with_the_second_epoch(optimizer):
    """Clipping changes nothing in the first step on a batch and something later."""
    policy = moved(PolicyModel(environment()))
    x, gradients = policy.env.prompts("test", 4), []
    start = {name: p.detach().clone() for name, p in policy.parameters.items()}
    for clip in (1e-6, 1e6):
        with torch.no_grad():
            for name, p in policy.parameters.items():
                p.copy_(start[name])
        clipped, made = dataclasses.replace(optimizer, clip=clip), batch(policy, x, 0, policy.env.reward)
        first = gradient(clipped.loss(made, 0.5), policy)
        with torch.no_grad():
            policy.parameters["output.weight"] += 0.1 * policy.parameters["output.weight"].sign()
        made.epoch = 1
        gradients.append((first, gradient(clipped.loss(made, 0.5), policy)))
        assert clipped.learner(policy, policy.env.reward, 0.5).epochs == 2
    (first, second), (unclipped_first, unclipped_second) = gradients
    assert torch.allclose(first, unclipped_first, atol=1e-6)
    assert not torch.allclose(second, unclipped_second, atol=1e-3)


def test_the_clipped_surrogate_against_numbers_computed_by_hand():
    ratio, advantage = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]), torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0])
    by_hand = torch.tensor([1.2 * 2, 1.5 * -2, 0.5 * 2, 0.8 * -2, 1.1 * 3])
    assert torch.allclose(clipped_surrogate(ratio.log(), advantage, 0.2), by_hand)


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_the_generalized_advantage_is_its_double_sum(decay):
    rewards, values = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    slow = torch.zeros_like(rewards)
    for t, s in itertools.combinations_with_replacement(range(6), 2):
        later = values[..., s + 1] if s < 5 else 0
        slow[..., t] += decay ** (s - t) * (rewards[..., s] + later - values[..., s])
    assert torch.allclose(generalized_advantage(rewards, values, decay), slow)


def test_at_lambda_one_advantages_are_returns_less_values():
    rewards, values = torch.randn(2, 3, 6, dtype=torch.float64)
    returns = rewards.flip(-1).cumsum(-1).flip(-1)
    assert torch.allclose(generalized_advantage(rewards, values, 1.0), returns - values)


def test_group_normalized_advantages_are_standardized():
    """Group normalized advantages have mean zero and deviation one."""
    rewards = 5 + 3 * torch.randn(10, 8, dtype=torch.float64)
    scaled = group_normalized_advantage(rewards, eps=0.0)
    assert torch.allclose(scaled.mean(-1), torch.zeros(10, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(scaled.std(-1), torch.ones(10, dtype=torch.float64))
    plain = group_normalized_advantage(rewards, normalize_std=False)
    assert torch.allclose(plain, leave_one_out_advantage(rewards) * 7 / 8)
    assert (group_normalized_advantage(torch.ones(2, 4)) == 0).all(), "equal rewards"


def test_k3_has_the_value_of_one_kl_and_the_slope_of_another():
    """K3 has the mean of the KL divergence and the mean gradient of the other one."""
    logits = torch.randn(2, 6, dtype=torch.float64)
    reference, free = logits[0].log_softmax(-1), logits[1].requires_grad_(True)
    log_prob = free.log_softmax(-1)
    p, k3 = log_prob.exp().detach(), k3_kl(log_prob - reference)
    assert (k3 >= 0).all()
    assert torch.allclose((p * k3).sum(), (p * (log_prob - reference)).sum())
    other = (reference.exp() * (reference - log_prob)).sum()
    (of_k3,), (of_other,) = (
        torch.autograd.grad((p * k3).sum(), free, retain_graph=True),
        torch.autograd.grad(other, free),
    )
    assert torch.allclose(of_k3, of_other)


def test_the_kl_loss_of_grpo_is_of_each_next_token():
    """Its mean is KL(pi || ref) of responses, its mean gradient not that of KL(ref || pi) of responses."""
    policy = moved(PolicyModel(environment(reference=Tilted(0.4))), 0.6)
    env, x = policy.env, policy.env.prompts("test", 2)
    every = env.all_responses().expand(1, 2, -1, -1)
    ratio, reference = policy.token_log_ratio(x, every), env.reference_log_probs(x, every)
    of_token = reference.gather(-1, every[..., None]).squeeze(-1)
    p = (of_token + ratio).sum(-1).exp().detach()
    loss = (p[..., None] * k3_kl(ratio)).sum((2, 3)).mean()
    assert torch.allclose(loss, (p * ratio.sum(-1)).sum(2).mean(), atol=1e-5)

    def divergence(prefixes):
        """The gradient of the sum of KL(ref || pi) of each next token, after prefixes of these probabilities."""
        logits = policy.network.logits(policy.parameters, x, every)
        of_next = (reference.exp() * (reference - (reference + logits).log_softmax(-1))).sum(-1)
        return gradient((prefixes[..., None] * of_next).sum((2, 3)).mean(), policy)

    after_policy, after_reference = divergence(p), divergence(of_token.sum(-1).exp())
    got = gradient(loss, policy)
    assert torch.allclose(got, after_policy, atol=1e-5)
    assert (got - after_reference).norm() > 0.1 * after_reference.norm()


class TokenTable:
    """A policy of two tokens of two kinds: the free logit of each token after each prefix, ordered by response."""

    def __init__(self, log_prob):
        p = log_prob.exp().view(2, 2)
        after = torch.stack([p.sum(1), *(p / p.sum(1, keepdim=True))])  # of the first token, and after 0 and after 1
        self.logits = after.log().requires_grad_(True)

    def token_log_ratio(self, prompts, responses):
        first, second = responses.unbind(-1)
        log_prob = self.logits.log_softmax(-1)
        return torch.stack([log_prob[0, first], log_prob[1 + first, second]], -1) - math.log(1 / 2)


@pytest.mark.parametrize(
    ("optimizer", "is_stationary"),
    [
        (GRPO(kl="reward", kl_weight=1.0), True),
        (GRPO(kl_weight=1.0), False),
        (GRPO(kl_weight=1.0, normalize_std=False), False),
    ],
    ids=str,
)
def test_grpo_has_the_optimum_with_kl_in_the_reward_alone(optimizer, is_stationary):
    """Its expected gradient, over all groups of three responses."""
    rewards, beta = torch.tensor([0.3, -1.0, 1.5, 0.2], dtype=torch.double), 0.5
    log_prob = (rewards / beta).log_softmax(0)
    policy, expected = TokenTable(log_prob), 0
    responses = torch.cartesian_prod(*2 * [torch.arange(2)])
    for group in itertools.product(range(4), repeat=3):
        y, group = responses[list(group)][None, None], list(group)
        ratio = policy.token_log_ratio(None, y).sum(-1)
        made = Batch(policy, None, y, rewards[group][None, None], ratio)
        (slope,) = torch.autograd.grad(optimizer.loss(made, beta).sum(), policy.logits)
        expected = expected + log_prob[group].sum().exp() * slope
    assert (expected.abs().max() < 1e-12) == is_stationary
    assert is_stationary or expected.abs().max() > 0.01


@pytest.mark.parametrize("kl", ["loss", "reward"])
def test_the_kl_weight_of_grpo_is_in_units_of_beta(kl):
    policy = moved(PolicyModel(environment()), 0.5)

    def first_loss(beta, weight):
        learner = GRPO(kl=kl, kl_weight=weight, prompts_per_step=4).learner(policy, policy.env.reward, beta)
        learner.draw(n_steps=1, block=0)
        return learner.loss(learner.batch(0))

    assert torch.equal(first_loss(0.5, 0.4), first_loss(0.2, 1.0))
    assert not torch.equal(first_loss(0.5, 0.4), first_loss(0.5, 1.0))


def test_the_rewards_of_tokens_add_up_to_the_penalized_reward():
    rewards, log_ratio = torch.randn(2, 3, 4), torch.randn(2, 3, 4, 5)
    total = token_rewards(rewards, log_ratio.clone(), 0.5).sum(-1)
    assert torch.allclose(total, rewards - 0.5 * log_ratio.sum(-1), atol=1e-5)


def test_values_start_at_zero_and_read_earlier_tokens():
    """A value is zero at the start and depends on earlier tokens alone."""
    env = environment()
    x, every = env.prompts("test", 2), env.all_responses().expand(1, 2, -1, -1)
    assert (ValueModel.beside(PolicyModel(env)).values(x, every) == 0).all()
    values = moved(ValueModel.beside(PolicyModel(env))).values(x, every)  # (1, 2, 8, 3)
    assert torch.allclose(values[..., 0], values[:, :, :1, 0].expand(-1, -1, 8))
    assert torch.allclose(values[:, :, 0::2], values[:, :, 1::2]), "they differ in the last token"
    assert not torch.allclose(values[:, :, 0, 2], values[:, :, 2, 2])


@every_optimizer
def test_every_optimizer_improves_the_policy(optimizer):
    env, beta = environment(seeds=(0, 1), complexity_factor=1.0), 1.0
    quick = dataclasses.replace(optimizer, steps=200, learning_rate=1e-2)
    policy = train_policy_with_rlhf(env, env.reward, beta=beta, settings=quick)
    prompts = env.prompts("evaluation", 100)
    normalized = policy_value(policy, beta, prompts, Evaluation()).value / env.optimal_value(beta, prompts)
    assert (normalized > (0.5 if isinstance(optimizer, GRPO) else 0.9)).all(), normalized


@every_optimizer
def test_a_seed_alone_equals_that_seed_among_others(optimizer):
    quick = dataclasses.replace(optimizer, steps=55, prompts_per_step=4)

    def trained(seeds):
        env = environment(seeds=seeds)
        return train_policy_with_rlhf(env, env.reward, settings=quick).parameters

    alone, among = trained((3,)), trained((0, 1, 3))
    for name, p in alone.items():
        assert torch.allclose(p[0], among[name][2], atol=2e-4), name


def test_a_seed_whose_reward_is_not_finite_touches_no_other():
    def reward_of(env, bad):
        return lambda x, y: env.reward(x, y) + torch.tensor([0.0, bad]).view(-1, 1, 1)

    env = environment(seeds=(0, 1))
    for optimizer in OPTIMIZERS:
        quick = dataclasses.replace(optimizer, steps=5, prompts_per_step=4)
        sound, broken = (
            train_policy_with_rlhf(env, reward_of(env, bad), settings=quick).parameters for bad in (0.0, float("nan"))
        )
        for name, p in sound.items():
            assert torch.equal(p[0], broken[name][0]), type(optimizer)


def test_the_exact_gradient_refuses_what_it_cannot_list():
    env = environment(output_dim=13)
    with pytest.raises(ConfigurationError, match=r"= 8192 responses: at most 4096"):
        train_policy_with_rlhf(env, env.reward, settings=ExactGradient())
