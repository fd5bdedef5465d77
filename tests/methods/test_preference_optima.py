"""Losses of direct methods where they are extreme, and where their expectation over exact pairs is stationary."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from alignsim.methods.losses import (
    cdpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    robust_dpo_loss,
    simpo_loss,
    slic_loss,
)


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


@pytest.mark.parametrize("name", ["dpo", "ipo", "slic", "cdpo", "robust_dpo", "simpo"])
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


def assert_zero_there_and_not_elsewhere(gradient, optimum):
    assert gradient(optimum).abs().max() < 1e-12
    assert gradient(torch.zeros_like(optimum)).abs().max() > 1e-3


def test_dpo_is_stationary_at_the_optimal_tilt_of_any_reference():
    there, rewards = world()
    assert_zero_there_and_not_elsewhere(
        lambda scores: there.gradient(lambda c, r: dpo_loss(c, r, 0.5), scores), shifted(rewards / 0.5)
    )


def test_robust_dpo_has_the_optimum_of_the_right_labels_where_labels_are_flipped():
    there, rewards = world(flips=0.2)
    assert_zero_there_and_not_elsewhere(
        lambda scores: there.gradient(lambda c, r: robust_dpo_loss(c, r, 0.5, 0.2), scores), shifted(rewards / 0.5)
    )
    assert there.gradient(lambda c, r: dpo_loss(c, r, 0.5), rewards / 0.5).abs().max() > 1e-3, "and DPO has not"


def test_ipo_is_stationary_where_the_log_ratio_is_the_win_rate_over_tau():
    """Azar et al. 2023, equation 7: log pi/ref = E[P(y beats ref)] / tau + constant."""
    there, _ = world()
    assert_zero_there_and_not_elsewhere(
        lambda scores: there.gradient(lambda c, r: ipo_loss(c, r, 0.3), scores), shifted(there.win_rate / 0.3)
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
def test_with_two_responses_a_loss_of_margins_is_stationary_at_its_closed_form(loss, margin):
    there, _ = world(2)
    optimum = torch.stack([margin(there.wins[0, 1]), double(0.0)])
    assert_zero_there_and_not_elsewhere(lambda scores: there.gradient(loss, scores), shifted(optimum))


def test_the_margins_that_cdpo_and_simpo_ask_for_do_not_add_up_and_those_of_dpo_do():
    there, _ = world(3)
    for margin, adds_up in ((torch.logit, True), (cdpo_margin, False), (simpo_margin, False)):
        asked = margin(there.wins)
        assert torch.isclose(asked[0, 1] + asked[1, 2], asked[0, 2]) == adds_up


def test_slic_asks_for_the_same_margin_however_probable_the_winner():
    for gap in (0.1, 1.0, 4.0):
        there = World(double([gap, 0.0]), double([0.5, 0.5]))
        inside, beyond = (
            there.gradient(lambda c, r: slic_loss(c, r, 0.5), double([2.0 + step, 0.0])) for step in (-1e-6, 1e-6)
        )
        assert inside[0] < 0 < beyond[0]


def test_kto_raises_what_wins_often_enough_and_lowers_all_else_wherever_it_is():
    there, _ = world()
    for seed in range(20):
        scores = 3 * torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for weights in ((1.0, 1.0), (1.0, 1.5)):
            gradient = there.gradient(lambda c, r, w=weights: kto(c, r, 0.4, 0.5, w), scores)
            often = there.win_rate > weights[1] / sum(weights)
            assert ((gradient < 0) == often).all()


def test_orpo_of_two_responses_lies_between_likelihood_and_odds_ratio_alone():
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
