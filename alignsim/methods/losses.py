"""The losses of every method, as pure functions of log-probabilities and rewards.

Losses on preference pairs come first, then the losses and advantages of policy optimizers. Each method's own file
computes the arguments.
"""

from __future__ import annotations

from alignsim._lazy import torch

#: Weights of desirable and of undesirable responses.
Weights = tuple[float, float]

# Losses on preference pairs.


def bradley_terry_loss(chosen_reward: torch.Tensor, rejected_reward: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(r(chosen) - r(rejected)), in nats, elementwise.

    The negative log-likelihood of a preference (Bradley & Terry 1952; Christiano et al. 2017, equation 1).
    """
    return -torch.nn.functional.logsigmoid(chosen_reward - rejected_reward)


def dpo_loss(chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid(beta [log pi/ref (chosen) - log pi/ref (rejected)]), in nats, elementwise.

    Rafailov et al. 2023, equation 7: the Bradley-Terry loss of the implicit reward beta log pi/ref.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the log-ratio of the rejected responses, of the same shape.
        beta: weight of the KL term, above 0.
    """
    return -torch.nn.functional.logsigmoid(beta * (chosen_log_ratio - rejected_log_ratio))


def labeled_dpo_loss(
    rewards: torch.Tensor, log_ratio: torch.Tensor, beta: float, coins: torch.Tensor | None = None
) -> torch.Tensor:
    """The DPO loss of pairs that rewards label by the Bradley-Terry model (1952), in nats, (S, B).

    Where the policy is optimal for the rewards, the expectation over labels is stationary for every pair, from whatever
    policy it was sampled: beta times the difference of log-ratios then equals the difference of rewards.

    Args:
        rewards: of both responses, (S, B, 2); adding a function of the prompt changes nothing.
        log_ratio: log pi - log ref of both, with gradient, (S, B, 2).
        beta: weight of the KL term, above 0.
        coins: numbers in [0, 1), (S, B): the first response is chosen where its probability is above; None for the
            expectation over labels.
    """
    first, second = log_ratio.unbind(-1)
    p_first = torch.sigmoid(rewards[..., 0] - rewards[..., 1])
    if coins is not None:
        p_first = torch.where(p_first.isnan(), p_first, (coins < p_first).to(p_first.dtype))
    return p_first * dpo_loss(first, second, beta) + (1 - p_first) * dpo_loss(second, first, beta)


def cdpo_loss(
    chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, beta: float, label_noise: float
) -> torch.Tensor:
    """-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), h the difference of log-ratios, in nats, elementwise.

    Mitchell 2023 (a note on DPO with noisy preferences), equation 3: cross-entropy with labels smoothed by e.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the log-ratio of the rejected responses, of the same shape.
        beta: weight of the KL term, above 0.
        label_noise: e, the assumed share of flipped labels, in [0, 0.5).
    """
    margin, log_sigmoid = beta * (chosen_log_ratio - rejected_log_ratio), torch.nn.functional.logsigmoid
    return -(1 - label_noise) * log_sigmoid(margin) - label_noise * log_sigmoid(-margin)


def robust_dpo_loss(
    chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, beta: float, label_noise: float
) -> torch.Tensor:
    """[-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)] / (1 - 2 e), h the difference of log-ratios, elementwise.

    Chowdhury et al. 2024, equation 12: its mean over labels that are flipped with probability e is the DPO loss of the
    labels before the flips. It is not bounded from below.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the log-ratio of the rejected responses, of the same shape.
        beta: weight of the KL term, above 0.
        label_noise: e, the share of labels that are flipped, in [0, 0.5).
    """
    margin, log_sigmoid = beta * (chosen_log_ratio - rejected_log_ratio), torch.nn.functional.logsigmoid
    unscaled = -(1 - label_noise) * log_sigmoid(margin) + label_noise * log_sigmoid(-margin)
    return unscaled / (1 - 2 * label_noise)


def ipo_loss(chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, tau: float) -> torch.Tensor:
    """(log pi/ref (chosen) - log pi/ref (rejected) - 1 / (2 tau))^2, elementwise.

    Azar et al. 2023, equation 17. The log-ratios are sums over tokens, as in the paper; some libraries take means.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the log-ratio of the rejected responses, of the same shape.
        tau: weight of the KL term in IPO's own objective E[P(y beats ref)] - tau KL, above 0.
    """
    return (chosen_log_ratio - rejected_log_ratio - 1 / (2 * tau)) ** 2


def slic_loss(chosen_log_ratio: torch.Tensor, rejected_log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """max(0, 1 - beta [log pi/ref (chosen) - log pi/ref (rejected)]), elementwise.

    The rank calibration loss of Zhao et al. 2023, section 2.2, with the log-ratios of Liu et al. 2023 (RSO, equation
    10) and so with margin 1 / beta; where the reference is uniform, log-ratios and the paper's log-probabilities give
    the same differences. The paper's term toward a fine-tuned policy is left out.

    Args:
        chosen_log_ratio: log pi(y|x) - log ref(y|x) of the chosen responses, any shape.
        rejected_log_ratio: the log-ratio of the rejected responses, of the same shape.
        beta: one over the margin, above 0.
    """
    return (1 - beta * (chosen_log_ratio - rejected_log_ratio)).relu()


def simpo_loss(
    chosen_mean_log_prob: torch.Tensor, rejected_mean_log_prob: torch.Tensor, beta: float, gamma: float
) -> torch.Tensor:
    """-log sigmoid(beta [m(chosen) - m(rejected)] - gamma), m = log pi(y|x) / |y|, in nats, elementwise.

    Meng et al. 2024, equation 6: the margin gamma is outside beta. Libraries that take gamma / beta mean this gamma.

    Args:
        chosen_mean_log_prob: log pi(y|x) / |y| of the chosen responses, any shape.
        rejected_mean_log_prob: the mean log-probability of the rejected responses, of the same shape.
        beta: scale, above 0; not a weight of a KL term.
        gamma: margin, 0 or above.
    """
    return -torch.nn.functional.logsigmoid(beta * (chosen_mean_log_prob - rejected_mean_log_prob) - gamma)


def orpo_loss(chosen_mean_log_prob: torch.Tensor, rejected_mean_log_prob: torch.Tensor, weight: float) -> torch.Tensor:
    """-m(chosen) - weight log sigmoid(log odds(chosen) - log odds(rejected)), in nats for a token, elementwise.

    Hong et al. 2024, equations 6 and 7: m = log pi(y|x) / |y| and odds = exp(m) / (1 - exp(m)), both of the mean over
    tokens.

    Args:
        chosen_mean_log_prob: m of the chosen responses, below 0, any shape.
        rejected_mean_log_prob: the mean log-probability of the rejected responses, of the same shape.
        weight: lambda of the paper, above 0.
    """
    log_odds = _log_odds(chosen_mean_log_prob) - _log_odds(rejected_mean_log_prob)
    return -chosen_mean_log_prob - weight * torch.nn.functional.logsigmoid(log_odds)


def _log_odds(log_prob: torch.Tensor) -> torch.Tensor:
    """Log of p / (1 - p), finite also where p rounds to 1."""
    return log_prob - torch.log(-torch.expm1(log_prob.clamp(max=-1e-7)))


def kto_loss(
    log_ratio: torch.Tensor, is_desirable: torch.Tensor, reference_point: torch.Tensor, beta: float, weights: Weights
) -> torch.Tensor:
    """w_y [1 - sigmoid(beta (r - z0))] where y is desirable, w_y [1 - sigmoid(beta (z0 - r))] where not, elementwise.

    Ethayarajh et al. 2024, equation 8, r = log pi(y|x) - log ref(y|x).

    Args:
        log_ratio: r, any shape.
        is_desirable: whether each response is, broadcastable to it.
        reference_point: z0, an estimate of KL(pi || ref), 0 or above, without gradient, broadcastable.
        beta: how fast the value saturates, above 0.
        weights: w of desirable and of undesirable responses.
    """
    margin = beta * (log_ratio - reference_point)
    missed = torch.sigmoid(torch.where(is_desirable, -margin, margin))
    # Two Python numbers in one `where` would give 32 bits, whatever the precision of the log-ratios
    return torch.where(is_desirable, weights[0] * missed, weights[1] * missed)


def reference_point(mismatched_log_ratio: torch.Tensor) -> torch.Tensor:
    """The estimate z0 = max(0, mean log pi/ref) over responses to other prompts, (S, B, K) -> (S, 1, 1).

    Ethayarajh et al. 2024, section 4. It is biased but cheap, and no gradient goes through it.
    """
    return mismatched_log_ratio.detach().mean((1, 2), keepdim=True).clamp(min=0)


def sft_loss(chosen_log_prob: torch.Tensor) -> torch.Tensor:
    """-log pi(y|x) of the chosen responses, in nats for a response, elementwise.

    Ouyang et al. 2022, step 1, on the responses that preferences chose.
    """
    return -chosen_log_prob


# Losses and advantages of policy optimizers.


def kl_penalized_reward(reward: torch.Tensor, log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """r(x, y) - beta log pi(y|x)/ref(y|x), elementwise: its mean under pi is the objective of RLHF.

    Ouyang et al. 2022, equation 2, without the pretraining term.
    """
    return reward - beta * log_ratio


def leave_one_out_advantage(rewards: torch.Tensor) -> torch.Tensor:
    """Each sample's reward less the mean of the other samples of its prompt, (..., K) -> (..., K), K >= 2.

    The baseline of RLOO (Kool et al. 2019; Ahmadian et al. 2024, equation 6): unbiased, no value network.
    """
    samples = rewards.shape[-1]
    return (rewards - rewards.mean(-1, keepdim=True)) * (samples / (samples - 1))


def rloo_loss(rewards: torch.Tensor, log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """A loss whose gradient is an unbiased estimate of that of -(E[r] - beta KL(pi || ref)), (S,).

    Args:
        rewards: rewards of K >= 2 independent samples from the policy for each prompt, (S, B, K).
        log_ratio: log pi - log ref of these samples, with gradient, (S, B, K).
        beta: weight of the KL term.
    """
    penalized = kl_penalized_reward(rewards, log_ratio.detach(), beta)
    return -(leave_one_out_advantage(penalized) * log_ratio).mean((1, 2))


def clipped_surrogate(log_ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """min(w A, clip(w, 1 - c, 1 + c) A) with w = pi / pi_old, elementwise, to be maximized.

    Schulman et al. 2017, equation 7. Where pi = pi_old its gradient is A times that of log pi.

    Args:
        log_ratio: log pi - log pi_old, with gradient.
        advantage: A, of the same shape or broadcastable.
        clip: c, above 0.
    """
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def generalized_advantage(rewards: torch.Tensor, values: torch.Tensor, decay: float) -> torch.Tensor:
    """A_t = sum_{s >= t} lambda^(s - t) (r_s + V_{s + 1} - V_s), with V_T = 0 and no discount, (..., T) -> (..., T).

    Schulman et al. 2016, equation 16, at gamma = 1.

    Args:
        rewards: r_t of each token, (..., T).
        values: V_t of the state before each token, (..., T).
        decay: lambda in [0, 1]. At 1 advantages are returns less values, unbiased whatever the values are.
    """
    later = torch.nn.functional.pad(values[..., 1:], (0, 1))
    advantage, advantages = torch.zeros_like(values[..., 0]), []
    for residual in reversed((rewards + later - values).unbind(-1)):
        advantage = residual + decay * advantage
        advantages.append(advantage)
    return torch.stack(advantages[::-1], -1)


def group_normalized_advantage(rewards: torch.Tensor, normalize_std: bool = True, eps: float = 1e-4) -> torch.Tensor:
    """(r - mean) / (std + eps) over the samples of a prompt, (..., K) -> (..., K), K >= 2.

    Shao et al. 2024, section 4.1.2.

    Args:
        rewards: rewards of K samples, (..., K).
        normalize_std: False leaves the division out (Liu et al. 2025). The advantage is then (K - 1) / K of
            `leave_one_out_advantage`.
        eps: keeps the quotient finite where all rewards are equal, above 0.
    """
    centered = rewards - rewards.mean(-1, keepdim=True)
    return centered / (rewards.std(-1, keepdim=True) + eps) if normalize_std else centered


def k3_kl(log_ratio: torch.Tensor) -> torch.Tensor:
    """Ref / pi - log(ref / pi) - 1, elementwise, never below 0: its mean under pi is KL(pi || ref).

    Schulman 2020, "Approximating KL divergence"; Shao et al. 2024, equation 4. The mean of its gradient on samples from
    pi is not the gradient of KL(pi || ref) but that of KL(ref || pi).

    Args:
        log_ratio: log pi - log ref.
    """
    return torch.expm1(-log_ratio) + log_ratio
