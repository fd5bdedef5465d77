"""Preference losses against numbers by hand, gradients in closed form, and optima that are known."""

import math

import pytest
import torch

import alignsim.methods.rl.rloo
from alignsim.config.checking import import_class
from alignsim.envs.simplified import SimplifiedEnvironment
from alignsim.methods.dpo import DPO
from alignsim.methods.kto import KTO
from alignsim.methods.losses import (
    cdpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    reference_point,
    robust_dpo_loss,
    sft_loss,
    simpo_loss,
    slic_loss,
)
from alignsim.models.made import MADE
from alignsim.models.policy import PolicyModel


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def value_and_slopes(loss, chosen, rejected):
    chosen, rejected = (torch.tensor(x, dtype=torch.double, requires_grad=True) for x in (chosen, rejected))
    value = loss(chosen, rejected)
    return value.item(), *(slope.item() for slope in torch.autograd.grad(value, (chosen, rejected)))


@pytest.mark.parametrize(
    ("loss", "value", "slope"),
    [
        (lambda c, r: dpo_loss(c, r, 0.5), 0.4932, -0.5 * sigmoid(-0.45)),
        (lambda c, r: ipo_loss(c, r, 0.25), (0.9 - 2) ** 2, 2 * (0.9 - 2)),
        (lambda c, r: slic_loss(c, r, 0.5), 0.55, -0.5),
        (lambda c, r: slic_loss(c, r, 2.0), 0.0, 0.0),
        (lambda c, r: cdpo_loss(c, r, 0.5, 0.1), 0.5382, -0.5 * (0.9 * sigmoid(-0.45) - 0.1 * sigmoid(0.45))),
        (
            lambda c, r: robust_dpo_loss(c, r, 0.5, 0.1),
            0.4370,
            -0.5 * (0.9 * sigmoid(-0.45) + 0.1 * sigmoid(0.45)) / 0.8,
        ),
        (lambda c, r: simpo_loss(c, r, 2.0, 1.0), 0.3711, -2 * sigmoid(-(1.8 - 1))),
    ],
)
def test_losses_of_a_difference_by_hand(loss, value, slope):
    found, by_chosen, by_rejected = value_and_slopes(loss, 0.7, -0.2)
    assert found == pytest.approx(value, abs=5e-5)
    assert by_chosen == pytest.approx(slope)
    assert by_rejected == pytest.approx(-slope)


def test_odds_ratio_by_hand():
    value, by_chosen, by_rejected = value_and_slopes(lambda c, r: orpo_loss(c, r, 0.3), math.log(0.5), math.log(0.2))
    # odds 1 and 1/4: their ratio is 4; d log odds / dm = 1 / (1 - p)
    assert value == pytest.approx(math.log(2) + 0.3 * math.log(5 / 4))
    assert by_chosen == pytest.approx(-1 - 0.3 * (1 / 5) / 0.5)
    assert by_rejected == pytest.approx(0.3 * (1 / 5) / 0.8)
    nearly_sure = torch.tensor([-1e-9, -1e-3], requires_grad=True)
    assert torch.isfinite(
        torch.autograd.grad(orpo_loss(nearly_sure, nearly_sure.flip(0), 1.0).sum(), nearly_sure)[0]
    ).all()


@pytest.mark.parametrize(("good", "weight", "sign"), [(True, 1.5, -1), (False, 0.7, 1)])
def test_desirable_and_undesirable_responses_by_hand(good, weight, sign):
    ratio = torch.tensor(0.8, dtype=torch.double, requires_grad=True)
    loss = kto_loss(ratio, torch.tensor(good), torch.tensor(0.3), 0.5, (1.5, 0.7))
    p = sigmoid(0.5 * sign * (0.8 - 0.3))
    assert loss.item() == pytest.approx(weight * p)
    assert torch.autograd.grad(loss, ratio)[0].item() == pytest.approx(weight * sign * 0.5 * p * (1 - p))


def test_the_reference_point_is_a_mean_of_each_seed_that_is_never_negative():
    ratios = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[-1.0, -2.0], [0.5, 0.5]]], requires_grad=True)
    point = reference_point(ratios)
    assert point.flatten().tolist() == [1.5, 0.0]
    assert not point.requires_grad


def test_likelihood_by_hand():
    assert sft_loss(torch.tensor(math.log(0.25))).item() == pytest.approx(math.log(4))


def test_relations_between_the_losses():
    h = torch.linspace(-4, 4, 9, dtype=torch.double)
    none, plain = torch.zeros_like(h), dpo_loss(h, torch.zeros_like(h), 0.5)
    assert torch.allclose(cdpo_loss(h, none, 0.5, 0.0), plain)
    assert torch.allclose(robust_dpo_loss(h, none, 0.5, 0.0), plain)
    flipped = 0.8 * robust_dpo_loss(h, none, 0.5, 0.2) + 0.2 * robust_dpo_loss(-h, none, 0.5, 0.2)
    assert torch.allclose(flipped, plain), "unbiased under flips of the assumed rate"
    assert torch.allclose(simpo_loss(h, none, 0.5, 0.0), plain)


def test_a_loss_has_the_import_path_of_its_method_too():
    assert alignsim.methods.dpo.dpo_loss is alignsim.methods.losses.dpo_loss
    assert alignsim.methods.rl.rloo.rloo_loss is alignsim.methods.losses.rloo_loss


ENV = SimplifiedEnvironment(3, 3, complexity_factor=2.0, seeds=(4,))
BETA = 0.5


def gradient_on_exact_data(loss, log_policy, flips=0.0):
    """By the logits of a policy that is a table: of the mean loss over all ordered pairs with their exact labels."""
    x, every = ENV.prompts("test", 1), ENV.all_responses()
    reward = ENV.reward(x, every)[0, 0].double()
    wins = torch.sigmoid(reward[:, None] - reward)
    wins = wins * (1 - flips) + wins.T * flips
    logits = log_policy(reward).detach().requires_grad_(True)
    log_prob = logits.log_softmax(0)
    log_ratio = log_prob + math.log(len(reward))
    chosen, rejected = torch.broadcast_tensors(log_ratio[:, None], log_ratio)
    (gradient,) = torch.autograd.grad((wins * loss(chosen, rejected)).mean(), logits)
    return gradient, wins


def optimal(reward):
    return (reward / BETA).log_softmax(0)


def test_the_closed_form_optimum_is_stationary_for_dpo_on_exact_data():
    gradient, _ = gradient_on_exact_data(lambda c, r: dpo_loss(c, r, BETA), optimal)
    assert gradient.abs().max() < 1e-7
    by_env = ENV.optimal_log_prob(BETA, ENV.prompts("test", 1), ENV.all_responses())[0, 0].double()
    gradient, _ = gradient_on_exact_data(lambda c, r: dpo_loss(c, r, BETA), lambda reward: by_env)
    assert gradient.abs().max() < 1e-6
    elsewhere, _ = gradient_on_exact_data(lambda c, r: dpo_loss(c, r, BETA), torch.zeros_like)
    assert elsewhere.abs().max() > 1e-3


def test_robust_dpo_has_the_same_optimum_under_flipped_labels_and_conservative_dpo_has_not():
    gradient, _ = gradient_on_exact_data(lambda c, r: robust_dpo_loss(c, r, BETA, 0.2), optimal, flips=0.2)
    assert gradient.abs().max() < 1e-7
    gradient, _ = gradient_on_exact_data(lambda c, r: cdpo_loss(c, r, BETA, 0.2), optimal, flips=0.2)
    assert gradient.abs().max() > 1e-3


def test_maximum_likelihood_is_optimal_at_the_distribution_of_chosen_responses():
    def policy(reward):
        return torch.sigmoid(reward[:, None] - reward).mean(1).log()

    gradient, _ = gradient_on_exact_data(lambda c, r: sft_loss(c), policy)
    assert gradient.abs().max() < 1e-7


@pytest.mark.parametrize("path", ["dpo.DPO", "cdpo.CDPO", "robust_dpo.RobustDPO"])
def test_a_beta_of_its_own_takes_the_place_of_the_runs(path):
    method_class = import_class(f"alignsim.methods.{path}")
    assert method_class().beta_of_loss(0.7) == method_class(beta=0.7).beta_of_loss(0.2) == 0.7


@pytest.mark.parametrize("path", ["ipo.IPO", "slic.SLiC", "kto.KTO"])
def test_a_temperature_is_in_units_of_the_runs_beta(path):
    method_class = import_class(f"alignsim.methods.{path}")
    assert method_class(temperature=1.0).beta_of_loss(0.7) == 0.7
    assert method_class(temperature=0.25).beta_of_loss(0.8) == 0.2


def test_kto_sees_no_pairs():
    env = SimplifiedEnvironment(3, 3, n_pairs=100)
    policy, pairs = PolicyModel(env, MADE(hidden_dim=8)), env.preference_data().train
    assert torch.allclose(KTO().loss(policy, pairs, 0.5), torch.full((1, len(pairs)), 0.5)), "half of each at the start"
    with pytest.raises(ValueError, match="greater than 0"):
        KTO(desirable_weight=0.0)
    with pytest.raises(ValueError, match="greater than 0"):
        DPO(beta=0.0)
