"""Losses against numbers by hand, gradients in closed form, and optima that are known."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

import alignsim.methods.rl.rloo
from alignsim import PolicyModel, SimplifiedEnvironment
from alignsim.config.checking import import_class
from alignsim.methods.dpo import DPO
from alignsim.methods.kto import KTO
from alignsim.methods.losses import (
    bradley_terry_loss,
    cdpo_loss,
    dpo_loss,
    group_normalized_advantage,
    ipo_loss,
    k3_kl,
    kl_penalized_reward,
    kto_loss,
    leave_one_out_advantage,
    orpo_loss,
    reference_point,
    robust_dpo_loss,
    sft_loss,
    simpo_loss,
    slic_loss,
)
from alignsim.models.made import MADE


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def value_and_slopes(loss, chosen, rejected):
    chosen, rejected = (torch.tensor(x, dtype=torch.double, requires_grad=True) for x in (chosen, rejected))
    value = loss(chosen, rejected)
    return value.item(), *(slope.item() for slope in torch.autograd.grad(value, (chosen, rejected)))


@pytest.mark.parametrize(
    ("loss", "value", "slope"),
    [
        (bradley_terry_loss, math.log(1 + math.exp(-0.9)), -sigmoid(-0.9)),
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


def test_the_reference_point_is_a_mean_never_negative():
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


def test_the_dpo_gradient_is_its_closed_form():
    """Rafailov et al. 2023, section 4: -beta sigmoid(-margin) (d log pi(chosen) - d log pi(rejected))."""
    chosen = torch.randn(50, dtype=torch.float64, requires_grad=True)
    rejected = torch.randn(50, dtype=torch.float64, requires_grad=True)
    for beta in (0.1, 0.5, 2.0):
        loss = dpo_loss(chosen, rejected, beta).sum()
        of_chosen, of_rejected = torch.autograd.grad(loss, (chosen, rejected))
        expected = -beta * torch.sigmoid(-beta * (chosen - rejected))
        assert torch.allclose(of_chosen, expected)
        assert torch.allclose(of_rejected, -expected)


def test_k3_and_group_normalized_advantages_by_hand():
    assert k3_kl(torch.tensor(math.log(2.0))).item() == pytest.approx(0.5 + math.log(2) - 1)
    by_hand = torch.tensor([-2.0, -1.0, 3.0]) / (7**0.5 + 1e-4)  # the sample's deviation: (4 + 1 + 9) / (3 - 1)
    assert torch.allclose(group_normalized_advantage(torch.tensor([1.0, 2.0, 6.0])), by_hand)


def test_leave_one_out_advantages_by_hand():
    """Leave one out advantage subtracts the mean of the others."""
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    by_hand = [[1 - 4.0, 2 - 3.5, 6 - 1.5], [0 - 1.5, 0 - 1.5, 3 - 0.0]]
    assert torch.allclose(leave_one_out_advantage(rewards), torch.tensor(by_hand))


def test_the_penalized_reward():
    assert kl_penalized_reward(torch.tensor(2.0), torch.tensor(3.0), 0.5) == 0.5


# Settings of methods that a loss depends on.


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


# Losses where they are extreme, and where their expectation over exact pairs is stationary.


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def kto(chosen, rejected, reference_point=0.3, beta=0.7, weights=(1.5, 0.8)):
    point = torch.tensor(reference_point)
    desirable, undesirable = (
        kto_loss(log_ratio, torch.tensor(good), point, beta, weights)
        for log_ratio, good in ((chosen, True), (rejected, False))
    )
    return (desirable + undesirable) / 2


LOSSES = {
    "bradley_terry": bradley_terry_loss,
    "dpo": lambda c, r: dpo_loss(c, r, 0.7),
    "ipo": lambda c, r: ipo_loss(c, r, 0.4),
    "slic": lambda c, r: slic_loss(c, r, 0.7),
    "cdpo": lambda c, r: cdpo_loss(c, r, 0.7, 0.2),
    "robust_dpo": lambda c, r: robust_dpo_loss(c, r, 0.7, 0.2),
    "simpo": lambda c, r: simpo_loss(c, r, 2.5, 0.6),
    "orpo": lambda c, r: orpo_loss(c, r, 0.3),
    "kto": kto,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_stay_finite_at_the_ends(name):
    chosen = torch.tensor([0.0, 0.0, -1e4, -1e4, -1e-8], requires_grad=True)
    rejected = torch.tensor([0.0, -1e4, 0.0, -1e4, 0.0], requires_grad=True)
    loss = LOSSES[name](chosen, rejected)
    gradients = torch.autograd.grad(loss.sum(), (chosen, rejected))
    assert all(torch.isfinite(values).all() for values in (loss, *gradients))


@pytest.mark.parametrize("name", ["bradley_terry", "dpo", "ipo", "slic", "cdpo", "robust_dpo", "simpo"])
def test_what_both_responses_share_does_not_matter(name):
    chosen, rejected, shift = torch.randn(3, 50, dtype=torch.float64)
    assert torch.allclose(LOSSES[name](chosen + shift, rejected + shift), LOSSES[name](chosen, rejected))


# Expectations over every pair: chosen responses along the axis before the last, rejected ones along the last.


class World:
    """Responses to one prompt with rewards and a reference that is not uniform; pairs are drawn from the reference."""

    def __init__(self, rewards, reference, flips=0.0):
        wins = torch.sigmoid(rewards[..., :, None] - rewards[..., None, :])
        self.reference, self.wins = reference, (1 - flips) * wins + flips * (1 - wins)
        self.pairs = 2 * reference[..., :, None] * reference[..., None, :] * self.wins  # a response beats itself half

    def gradient(self, loss, scores):
        """The derivatives of the expected loss by the score of each response."""
        scores = scores.clone().requires_grad_(True)
        expected = (self.pairs * loss(scores[..., :, None], scores[..., None, :])).sum()
        return torch.autograd.grad(expected, scores)[0]

    @property
    def win_rate(self):
        """Of each response against the reference."""
        return (self.wins * self.reference[..., None, :]).sum(-1)


def world(n_responses=6, flips=0.0):
    generator = torch.Generator().manual_seed(n_responses)
    rewards, logits = torch.randn(2, n_responses, dtype=torch.float64, generator=generator)
    return World(1.5 * rewards, logits.softmax(0), flips), 1.5 * rewards


def shifted(scores):
    """The same scores up to a constant, which no loss on differences sees."""
    return scores + 0.37


def assert_zero_at_the_optimum_alone(gradient, optimum):
    assert gradient(optimum).abs().max() < 1e-12
    assert gradient(torch.zeros_like(optimum)).abs().max() > 1e-3


def test_dpo_is_stationary_at_the_optimal_tilt_of_any_reference():
    pairs, rewards = world()
    assert_zero_at_the_optimum_alone(
        lambda scores: pairs.gradient(lambda c, r: dpo_loss(c, r, 0.5), scores), shifted(rewards / 0.5)
    )


def test_dpo_is_stationary_at_the_optimum_of_the_environment():
    env = SimplifiedEnvironment(3, 3, complexity_factor=2.0, seeds=(4,))
    x, every = env.prompts("test", 1), env.all_responses()
    rewards, optimum = env.reward(x, every)[0, 0].double(), env.optimal_log_prob(0.5, x, every)[0, 0].double()
    pairs = World(rewards, torch.full_like(rewards, 1 / len(rewards)))
    assert pairs.gradient(lambda c, r: dpo_loss(c, r, 0.5), optimum).abs().max() < 1e-6


def test_sft_is_stationary_at_the_chosen_distribution():
    """SFT is stationary at the distribution of chosen responses."""
    pairs, _ = world()
    chosen = pairs.pairs.sum(-1)
    assert_zero_at_the_optimum_alone(
        lambda scores: pairs.gradient(lambda c, r: sft_loss(c - c.logsumexp(-2, keepdim=True)), scores),
        shifted(chosen.log()),
    )


def test_robust_dpo_has_the_optimum_of_labels_before_flips():
    pairs, rewards = world(flips=0.2)
    assert_zero_at_the_optimum_alone(
        lambda scores: pairs.gradient(lambda c, r: robust_dpo_loss(c, r, 0.5, 0.2), scores), shifted(rewards / 0.5)
    )
    assert pairs.gradient(lambda c, r: dpo_loss(c, r, 0.5), rewards / 0.5).abs().max() > 1e-3, "and DPO has not"
    assert pairs.gradient(lambda c, r: cdpo_loss(c, r, 0.5, 0.2), rewards / 0.5).abs().max() > 1e-3, "nor cDPO"


def test_ipo_is_stationary_at_the_win_rate_over_tau():
    """Azar et al. 2023, equation 7: log pi/ref = E[P(y beats ref)] / tau + constant."""
    pairs, _ = world()
    assert_zero_at_the_optimum_alone(
        lambda scores: pairs.gradient(lambda c, r: ipo_loss(c, r, 0.3), scores), shifted(pairs.win_rate / 0.3)
    )


def cdpo_margin(p):
    return torch.logit((1 - 0.1) * p + 0.1 * (1 - p)) / 0.5


def simpo_margin(p, beta=2.5, gamma=0.6):
    """The root of p sigmoid(gamma - m) = (1 - p) sigmoid(gamma + m), over beta: a quadratic in exp(m)."""
    shrink, lead = math.exp(-gamma), 2 * p - 1
    return ((lead + (lead**2 + 4 * p * (1 - p) * shrink**2).sqrt()) / (2 * (1 - p) * shrink)).log() / beta


@pytest.mark.parametrize(
    ("loss", "margin"),
    [
        (lambda c, r: cdpo_loss(c, r, 0.5, 0.1), cdpo_margin),
        (lambda c, r: simpo_loss(c, r, 2.5, 0.6), simpo_margin),
        (lambda c, r: dpo_loss(c, r, 0.5), lambda p: torch.logit(p) / 0.5),
        (lambda c, r: ipo_loss(c, r, 0.3), lambda p: (2 * p - 1) / (2 * 0.3)),
        (lambda c, r: simpo_loss(c, r, 2.5, 0.0), lambda p: torch.logit(p) / 2.5),
    ],
    ids=["cdpo", "simpo", "dpo", "ipo", "simpo without margin"],
)
def test_two_responses_have_a_margin_in_closed_form(loss, margin):
    pairs, _ = world(2)
    optimum = torch.stack([margin(pairs.wins[0, 1]), double(0.0)])
    assert_zero_at_the_optimum_alone(lambda scores: pairs.gradient(loss, scores), shifted(optimum))


def test_margins_add_up_for_dpo_and_not_for_cdpo_and_simpo():
    pairs, _ = world(3)
    for margin, adds_up in ((torch.logit, True), (cdpo_margin, False), (simpo_margin, False)):
        asked = margin(pairs.wins)
        assert torch.isclose(asked[0, 1] + asked[1, 2], asked[0, 2]) == adds_up


def test_slic_has_one_margin_for_every_probability():
    for gap in (0.1, 1.0, 4.0):
        pairs = World(double([gap, 0.0]), double([0.5, 0.5]))
        inside, beyond = (
            pairs.gradient(lambda c, r: slic_loss(c, r, 0.5), double([2.0 + step, 0.0])) for step in (-1e-6, 1e-6)
        )
        assert inside[0] < 0 < beyond[0]


def test_kto_raises_what_wins_often_and_lowers_the_rest():
    pairs, _ = world()
    for seed in range(20):
        scores = 3 * torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for weights in ((1.0, 1.0), (1.0, 1.5)):
            gradient = pairs.gradient(lambda c, r, w=weights: kto(c, r, 0.4, 0.5, w), scores)
            often = pairs.win_rate > weights[1] / sum(weights)
            assert ((gradient < 0) == often).all()


def test_the_optimum_of_orpo_lies_between_those_of_its_terms():
    """Its optimum has no closed form; at lambda = 0 it is that of SFT, without likelihood the odds ratio is p's."""
    p = double(0.8)  # that the first is chosen

    def gradient(logit, weight):
        logit = logit.clone().requires_grad_(True)
        first, second = logsigmoid(logit), logsigmoid(-logit)
        expected = p * orpo_loss(first, second, weight) + (1 - p) * orpo_loss(second, first, weight)
        return torch.autograd.grad(expected, logit)[0]

    likelihood, odds_ratio = torch.logit(p), torch.logit(p) / 2
    assert gradient(likelihood, 0.0).abs() < 1e-12
    for weight in (0.1, 1.0, 10.0):
        assert gradient(odds_ratio, weight) < 0 < gradient(likelihood, weight)
