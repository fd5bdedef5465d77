import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.methods.losses import bradley_terry_loss, dpo_loss
from alignsim.models.made import MADE

NETWORKS = [MADE(), MADE(hidden_dim=4, n_layers=1), MADE(hidden_dim=20, n_layers=3), MADE(autoregressive=False)]


def environment(complexity_factor=2.0, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "vocab_size": 3, "seeds": (1, 2), "n_pairs": 300} | changes
    return SimplifiedEnvironment(complexity_factor=complexity_factor, **settings)


def shaken(model, scale=0.7):
    """The model with every parameter random, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: scale * torch.randn(p.shape, generator=generator) for name, p in model.parameters.items()}
    model.parameters = model.network.masked({name: p + noise[name] for name, p in model.parameters.items()})
    return model


@pytest.mark.parametrize("network", NETWORKS)
def test_no_logit_depends_on_its_own_or_a_later_token(network):
    env = environment()
    model = shaken(PolicyModel(env, network))
    net, prompts = model.network, env.prompts("test", 2)
    codes = torch.randn(2, 2, 5, 4, 3, requires_grad=True)
    logits = net.logits_of_codes(model.parameters, prompts, codes)
    for t in range(4):
        (gradient,) = torch.autograd.grad(logits[..., t, :].square().sum(), codes, retain_graph=True)
        by_position = gradient.abs().sum((0, 1, 2, 4))
        assert by_position[t:].sum() == 0
        assert network.autoregressive is False or (by_position[:t] > 0).all()
        assert network.autoregressive or by_position.sum() == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_a_fresh_policy_is_exactly_the_reference(network):
    env = environment()
    prompts, every = env.prompts("test", 6), env.all_responses()
    policy = PolicyModel(env, network)
    expected = env.reference_log_prob(prompts, every.expand(2, 6, -1, -1))
    assert torch.equal(policy.log_prob(prompts, every), expected)
    assert torch.count_nonzero(RewardModel(env, network)(prompts, every)) == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_probabilities_sum_to_one(network):
    env = environment()
    policy = shaken(PolicyModel(env, network))
    log_prob = policy.log_prob(env.prompts("test", 6), env.all_responses())
    assert log_prob.shape == (2, 6, 81)
    assert torch.allclose(log_prob.exp().sum(-1), torch.ones(2, 6), atol=1e-5)
    assert log_prob.exp().std() > 0.001


@pytest.mark.parametrize("network", NETWORKS)
def test_samples_follow_the_log_probabilities(network):
    env = environment()
    policy, n = shaken(PolicyModel(env, network)), 20000
    prompts = env.prompts("test", 3)
    samples = policy.sample(prompts, uniforms=env.streams.uniform("test", (3, n, 4)))
    p = policy.log_prob(prompts, env.all_responses()).exp()
    index = (samples * torch.tensor([27, 9, 3, 1])).sum(-1)
    counts = torch.zeros_like(p).scatter_add_(-1, index, torch.ones_like(index, dtype=p.dtype))
    # Pearson's chi-square over the cells that are not too rare: mean 80, standard deviation about 13
    cells = p * n >= 5
    chi_square = torch.where(cells, (counts - n * p).square() / (n * p), 0).sum(-1)
    assert (chi_square < cells.sum(-1) + 5 * (2 * cells.sum(-1)).sqrt()).all()


def test_shared_responses_score_as_expanded_ones():
    env = environment()
    prompts, every = env.prompts("test", 5), env.all_responses()
    for model in (shaken(PolicyModel(env)).log_prob, shaken(RewardModel(env))):
        assert torch.allclose(model(prompts, every), model(prompts, every.expand(2, 5, -1, -1)), atol=1e-5)


def test_the_reward_model_scores_content_and_is_centred_at_every_position():
    env = environment()
    prompts, every = env.prompts("test", 5), env.all_responses()
    reward_model = shaken(RewardModel(env, beta=0.3))
    logits = reward_model.network.logits(reward_model.parameters, prompts, env.tokens_to_content(every))
    centered = logits - logits.mean(-1, keepdim=True)
    content = env.tokens_to_content(every).expand(2, 5, -1, -1)
    by_hand = 0.3 * sum(centered[:, :, :, t].gather(-1, content[..., t, None]).squeeze(-1) for t in range(4))
    assert torch.allclose(reward_model(prompts, every), by_hand, atol=1e-5)
    reads_tokens = RewardModel(env, beta=0.3, reads="tokens")
    reads_tokens.parameters = reward_model.parameters
    assert torch.allclose(reads_tokens(prompts, env.tokens_to_content(every)), by_hand, atol=1e-5)


def test_without_a_gap_and_a_prefix_the_reward_models_loss_is_the_dpo_loss():
    env, network, beta = environment(1.0, vocab_size=2), MADE(autoregressive=False), 0.4
    pairs = env.preference_data().train
    policy, reward_model = shaken(PolicyModel(env, network)), RewardModel(env, network, beta=beta)
    reward_model.parameters = {name: p.clone() for name, p in policy.parameters.items()}
    losses, gradients = [], []
    for model in (policy, reward_model):
        for p in model.parameters.values():
            p.requires_grad_(True)
        score = model.log_ratio if model is policy else model
        chosen, rejected = score(pairs.prompts, pairs.responses).unbind(-1)
        loss = dpo_loss(chosen, rejected, beta) if model is policy else bradley_terry_loss(chosen, rejected)
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss.sum(), list(model.parameters.values())))
    assert torch.allclose(*losses, atol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_same_seed_starts_from_the_same_weights_in_every_model():
    alone, among = PolicyModel(environment(seeds=(2,))), RewardModel(environment(3.0, seeds=(0, 1, 2)))
    for name, p in alone.parameters.items():
        assert torch.equal(p[0], among.parameters[name][2])
