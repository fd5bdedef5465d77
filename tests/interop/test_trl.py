"""The losses here and those of TRL, with their gradients by the logits of a tiny language model.

`python -m pytest -n 0 -rP tests/interop` prints by how much each pair differs.
"""

import pytest
import torch

from alignsim.methods.losses import (
    bradley_terry_loss,
    cdpo_loss,
    clipped_surrogate,
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

pytest.importorskip("trl", reason='needs pip install -e ".[interop]"')

from tests.interop import trl_side

BETAS = (0.1, 0.5, 2.0)
PAIRS = 16
RESPONSE_LENGTH = trl_side.RESPONSE_LENGTH


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def policy():
    return trl_side.TinyLanguageModel()


@pytest.fixture
def reference():
    return trl_side.TinyLanguageModel(0.5)


@pytest.fixture
def pairs():
    return trl_side.random_texts(PAIRS), trl_side.random_texts(PAIRS)


def relative_difference(theirs, ours):
    """The largest difference, as a share of the largest value."""
    return float((theirs - ours).abs().max() / ours.abs().max())


def assert_agree(theirs, loss, model, tolerance=1e-12):
    """The loss and the gradient of TRL are those of `loss`."""
    ours = trl_side.gradient(loss, model)
    of_loss, of_gradient = map(relative_difference, theirs, ours)
    print(f"loss {of_loss:.0e}, gradient {of_gradient:.0e}")
    assert ours[1].abs().max() > 1e-3
    assert max(of_loss, of_gradient) < tolerance


def log_ratios(policy, reference, pairs):
    return [policy.log_prob(texts) - reference.log_prob(texts).detach() for texts in pairs]


@pytest.mark.parametrize("beta", BETAS)
def test_dpo(policy, reference, pairs, beta):
    theirs = trl_side.dpo("sigmoid", policy, reference, *pairs, beta)
    assert_agree(theirs, dpo_loss(*log_ratios(policy, reference, pairs), beta).mean(), policy)


@pytest.mark.parametrize("beta", BETAS)
def test_slic_is_the_hinge_loss_of_trl(policy, reference, pairs, beta):
    theirs = trl_side.dpo("hinge", policy, reference, *pairs, beta)
    assert_agree(theirs, slic_loss(*log_ratios(policy, reference, pairs), beta).mean(), policy)


@pytest.mark.parametrize("beta", BETAS)
def test_robust_dpo(policy, reference, pairs, beta):
    theirs = trl_side.dpo("robust", policy, reference, *pairs, beta, label_noise=0.2)
    assert_agree(theirs, robust_dpo_loss(*log_ratios(policy, reference, pairs), beta, 0.2).mean(), policy)


@pytest.mark.parametrize("tau", BETAS)
def test_ipo_of_sums_is_that_of_means_with_tau_times_length(policy, reference, pairs, tau):
    """IPO of sums over tokens is that of means with tau times the length."""
    theirs = trl_side.dpo("ipo", policy, reference, *pairs, tau * RESPONSE_LENGTH)
    scaled = [RESPONSE_LENGTH**2 * value for value in theirs]
    assert_agree(scaled, ipo_loss(*log_ratios(policy, reference, pairs), tau).mean(), policy)


@pytest.mark.parametrize("beta", BETAS)
def test_cdpo_without_reference_is_the_smoothed_loss_of_cpo(policy, pairs, beta):
    """CDPO without a reference is the smoothed sigmoid loss of cpo."""
    theirs = trl_side.cpo("sigmoid", policy, *pairs, beta, label_noise=0.2)
    assert_agree(theirs, cdpo_loss(*map(policy.log_prob, pairs), beta, 0.2).mean(), policy)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
@pytest.mark.parametrize("beta", BETAS)
def test_simpo_has_its_margin_outside_of_beta(policy, pairs, beta, gamma):
    means = [policy.log_prob(texts) / RESPONSE_LENGTH for texts in pairs]
    theirs = trl_side.cpo("simpo", policy, *pairs, beta, gamma)
    assert_agree(theirs, simpo_loss(*means, beta, gamma).mean(), policy)


@pytest.mark.parametrize("weight", BETAS)
def test_orpo_of_means_over_tokens(policy, pairs, weight):
    means = [policy.log_prob(texts) / RESPONSE_LENGTH for texts in pairs]
    theirs = trl_side.orpo(policy, *pairs, weight)
    assert_agree(theirs, orpo_loss(*means, weight).mean(), policy, tolerance=1e-6)  # TRL's odds are of 32 bits


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("beta", BETAS)
def test_kto_whether_its_reference_point_is_above_0_or_not(policy, reference, beta, swapped):
    if swapped:
        policy, reference = reference, policy
    texts, mismatched = trl_side.random_texts(PAIRS), trl_side.random_texts(PAIRS)
    is_desirable, weights = torch.arange(PAIRS) % 3 == 0, (1.5, 0.7)
    theirs = trl_side.kto(policy, reference, texts, is_desirable, mismatched, beta, weights)

    log_ratio, of_mismatched = log_ratios(policy, reference, (texts, mismatched))
    z0 = reference_point(of_mismatched.view(1, PAIRS, 1))
    assert (z0 > 0) == swapped  # the flatter of the two policies is the likelier one on random texts
    loss = kto_loss(log_ratio.view(1, PAIRS, 1), is_desirable.view(1, PAIRS, 1), z0, beta, weights)
    assert_agree(theirs, loss.mean(), policy)


def test_sft_sums_over_tokens_where_trl_takes_the_mean(policy, reference, pairs):
    """SFT is of whole responses where TRL takes the mean over tokens."""
    theirs = trl_side.dpo("sft", policy, reference, *pairs, 1.0)
    assert_agree(theirs, sft_loss(policy.log_prob(pairs[0])).mean() / RESPONSE_LENGTH, policy)


def test_the_reward_model():
    model = trl_side.Rewards(2 * PAIRS)
    chosen, rejected = model.rewards.squeeze(-1).chunk(2)
    assert_agree(trl_side.reward(model), bradley_terry_loss(chosen, rejected).mean(), model)


# Policy gradients.


@pytest.fixture
def old(policy):
    """A policy some steps behind: its ratios are within the clipping range or not."""
    before = trl_side.TinyLanguageModel(0.3)
    before.table.data += policy.table.data
    return before


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo"])
@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_grpo_and_for_responses_of_one_length_its_dr_grpo_too(policy, old, reference, epsilon, beta, loss_type):
    texts, advantages = trl_side.random_texts(PAIRS), torch.randn(PAIRS, dtype=torch.float64)
    theirs = trl_side.grpo(policy, old, reference, texts, advantages, epsilon, beta, loss_type=loss_type)

    now = policy.token_log_probs(texts)
    surrogate = clipped_surrogate(now - old.token_log_probs(texts).detach(), advantages[:, None], epsilon)
    loss = beta * k3_kl(now - reference.token_log_probs(texts).detach()) - surrogate
    assert_agree(theirs, loss.mean(), policy)


@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_grpo_with_one_ratio_for_a_response(policy, old, reference, epsilon):
    texts, advantages = trl_side.random_texts(PAIRS), torch.randn(PAIRS, dtype=torch.float64)
    theirs = trl_side.grpo(policy, old, reference, texts, advantages, epsilon, 0.0, level="sequence")
    mean_log_ratio = (policy.log_prob(texts) - old.log_prob(texts).detach()) / RESPONSE_LENGTH
    assert_agree(theirs, -clipped_surrogate(mean_log_ratio, advantages, epsilon).mean(), policy)


@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_off_policy_rloo_is_ppo_of_whole_responses(policy, old, epsilon):
    """RLOO away from the policy that sampled is PPO of whole responses."""
    texts, advantages = trl_side.random_texts(PAIRS), torch.randn(PAIRS, dtype=torch.float64)
    log_ratio = policy.log_prob(texts) - old.log_prob(texts).detach()
    theirs = trl_side.rloo(policy, old, texts, advantages, epsilon)
    assert_agree(theirs, -clipped_surrogate(log_ratio, advantages, epsilon).mean(), policy)


def test_on_policy_rloo_is_the_policy_gradient(policy):
    """On policy the gradient of RLOO is that of the advantage times the log prob."""
    texts = trl_side.random_texts(PAIRS)
    advantages = leave_one_out_advantage(torch.randn(PAIRS // 4, 4, dtype=torch.float64)).flatten()
    _, theirs = trl_side.rloo(policy, policy, texts, advantages, 0.2)
    _, ours = trl_side.gradient(-(advantages * policy.log_prob(texts)).mean(), policy)
    difference = relative_difference(theirs, ours)
    print(f"gradient {difference:.0e}")
    assert difference < 1e-12


@pytest.fixture
def groups():
    """Rewards, (B, K), and the texts that got them, (B, K, L); TRL's K / (K-1) is of 32 bits, for K = 5 exact."""
    rewards = torch.randn(4, 5, dtype=torch.float64)
    return rewards, trl_side.random_texts(rewards.numel()).view(*rewards.shape, -1)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_leave_one_out_advantage_of_penalized_rewards(policy, reference, groups, beta):
    rewards, texts = groups
    with torch.no_grad():
        log_ratio = (policy.log_prob(texts.flatten(0, 1)) - reference.log_prob(texts.flatten(0, 1))).view_as(rewards)
    ours = leave_one_out_advantage(kl_penalized_reward(rewards, log_ratio, beta))
    difference = relative_difference(trl_side.rloo_advantage(rewards, texts, policy, reference, beta), ours)
    print(f"advantage {difference:.0e}")
    assert difference < 1e-12


def test_the_group_normalized_advantage(policy, groups):
    rewards, texts = groups
    difference = relative_difference(
        trl_side.grpo_advantage(rewards, texts, policy), group_normalized_advantage(rewards)
    )
    print(f"advantage {difference:.0e}")
    assert difference < 1e-12


def test_unnormalized_grpo_is_rloo_up_to_a_factor(policy, groups):
    """Without its deviation the advantage of GRPO is that of RLOO but for a factor."""
    rewards, texts = groups
    theirs = trl_side.grpo_advantage(rewards, texts, policy, scale="none")
    samples = rewards.shape[-1]
    difference = relative_difference(theirs, leave_one_out_advantage(rewards) * (samples - 1) / samples)
    print(f"advantage {difference:.0e}")
    assert difference < 1e-12
