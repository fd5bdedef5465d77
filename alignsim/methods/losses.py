"""What reward models and policy optimizers learn by, as pure functions of log-probabilities and rewards.

The loss that makes a method what it is stands in its own module.
"""

from __future__ import annotations

from alignsim._lazy import torch


def bradley_terry_loss(chosen_reward: torch.Tensor, rejected_reward: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(r(chosen) - r(rejected)), in nats, elementwise.

    The negative log-likelihood of a preference (Bradley & Terry 1952; Christiano et al. 2017, equation 1).
    """
    return -torch.nn.functional.logsigmoid(chosen_reward - rejected_reward)


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
        rewards: r_t, of each token.
        values: V_t, of the state before each token.
        decay: lambda in [0, 1]. At 1 advantages are returns less values, unbiased whatever the values are.
    """
    later = torch.nn.functional.pad(values[..., 1:], (0, 1))
    advantage, advantages = torch.zeros_like(values[..., 0]), []
    for surprise in reversed((rewards + later - values).unbind(-1)):
        advantage = surprise + decay * advantage
        advantages.append(advantage)
    return torch.stack(advantages[::-1], -1)


def group_normalized_advantage(rewards: torch.Tensor, scale: bool = True, eps: float = 1e-4) -> torch.Tensor:
    """(r - mean) / (std + eps) over the samples of a prompt, (..., K) -> (..., K), K >= 2.

    Shao et al. 2024, section 4.1.2.

    Args:
        rewards: of K samples.
        scale: False leaves the division out (Liu et al. 2025). The advantage is then (K - 1) / K of
            `leave_one_out_advantage`.
        eps: what keeps the quotient finite where all rewards are equal.
    """
    centered = rewards - rewards.mean(-1, keepdim=True)
    return centered / (rewards.std(-1, keepdim=True) + eps) if scale else centered


def k3_kl(log_ratio: torch.Tensor) -> torch.Tensor:
    """Ref / pi - log(ref / pi) - 1, elementwise, never below 0: its mean under pi is KL(pi || ref).

    Schulman 2020, "Approximating KL divergence"; Shao et al. 2024, equation 4. The mean of its gradient on samples from
    pi is that of KL(ref || pi), the other way round.

    Args:
        log_ratio: log pi - log ref.
    """
    return torch.expm1(-log_ratio) + log_ratio
