import math

import pytest
import torch

from alignsim.methods.losses import (
    bradley_terry_loss,
    dpo_loss,
    group_normalized_advantage,
    k3_kl,
    kl_penalized_reward,
    leave_one_out_advantage,
)


def test_dpo_loss_against_numbers_computed_by_hand():
    chosen, rejected = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.0, -1.0, 3.0])
    # margins beta (c - r) with beta = 0.5: 0, 1, -2.5
    by_hand = [math.log(2), math.log(1 + math.exp(-1)), math.log(1 + math.exp(2.5))]
    assert torch.allclose(dpo_loss(chosen, rejected, 0.5), torch.tensor(by_hand), atol=1e-6)


def test_dpo_gradient_is_its_closed_form():
    """Rafailov et al. 2023, section 4: -beta sigmoid(-margin) (d log pi(chosen) - d log pi(rejected))."""
    chosen = torch.randn(50, dtype=torch.float64, requires_grad=True)
    rejected = torch.randn(50, dtype=torch.float64, requires_grad=True)
    for beta in (0.1, 0.5, 2.0):
        loss = dpo_loss(chosen, rejected, beta).sum()
        of_chosen, of_rejected = torch.autograd.grad(loss, (chosen, rejected))
        expected = -beta * torch.sigmoid(-beta * (chosen - rejected))
        assert torch.allclose(of_chosen, expected)
        assert torch.allclose(of_rejected, -expected)


def test_the_preference_loss_and_its_gradient_by_hand():
    chosen, rejected = (torch.tensor(r, dtype=torch.float64, requires_grad=True) for r in (0.7, -0.2))
    loss = bradley_terry_loss(chosen, rejected)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.9)))
    of_chosen, of_rejected = torch.autograd.grad(loss, (chosen, rejected))
    assert of_chosen.item() == pytest.approx(-1 / (1 + math.exp(0.9)))
    assert of_rejected == -of_chosen


def test_k3_and_group_normalized_advantages_by_hand():
    assert k3_kl(torch.tensor(math.log(2.0))).item() == pytest.approx(0.5 + math.log(2) - 1)
    by_hand = torch.tensor([-2.0, -1.0, 3.0]) / (7**0.5 + 1e-4)  # the sample's deviation: (4 + 1 + 9) / (3 - 1)
    assert torch.allclose(group_normalized_advantage(torch.tensor([1.0, 2.0, 6.0])), by_hand)


def test_losses_stay_finite_at_extreme_margins():
    extreme = torch.tensor([1e4, -1e4])
    assert torch.isfinite(bradley_terry_loss(extreme, -extreme)).all()


def test_the_preference_loss_ignores_what_both_responses_share():
    chosen, rejected, shift = torch.randn(3, 20, dtype=torch.float64)
    assert torch.allclose(bradley_terry_loss(chosen + shift, rejected + shift), bradley_terry_loss(chosen, rejected))


def test_leave_one_out_advantage_subtracts_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    by_hand = [[1 - 4.0, 2 - 3.5, 6 - 1.5], [0 - 1.5, 0 - 1.5, 3 - 0.0]]
    assert torch.allclose(leave_one_out_advantage(rewards), torch.tensor(by_hand))


def test_the_penalized_reward():
    assert kl_penalized_reward(torch.tensor(2.0), torch.tensor(3.0), 0.5) == 0.5
