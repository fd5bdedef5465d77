"""Scores of responses that autograd can differentiate, also where a network's own gradient is derived by hand.

A score is a number for each response: a log-probability ratio, a reward. A `Head` says how it follows from the
logits; what a method does with scores is left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: From logits and one-hot tokens, (S, T, V, K, B) both, to scores, (S, K, B) or of each token (S, T, K, B), and a
#: function that gives the derivatives of their sum by the logits, (S, T, V, K, B). Autograd may go through it instead.
Head = Callable[["torch.Tensor", "torch.Tensor"], "tuple[torch.Tensor, Callable[[], torch.Tensor]]"]


def log_ratio_head(reference: torch.Tensor, of_each_token: bool = False) -> Head:
    """Log pi(y | x) / ref(y | x), or that of each token given the ones before it.

    Args:
        reference: log-probabilities of the reference policy, broadcastable to (S, T, V, K, B).
        of_each_token: whether it is to be told of each token on its own.
    """
    reference = clamp_log_probs(reference)

    def head(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        log_probs = (logits + reference).log_softmax(2)
        log_ratios = (log_probs - reference).mul_(tokens).sum(2 if of_each_token else (1, 2))
        return log_ratios, lambda: log_probs.exp_().neg_().add_(tokens)

    return head


def clamp_log_probs(log_probs: torch.Tensor) -> torch.Tensor:
    """The same with a finite number, whose exponential is 0, for what is forbidden: minus infinity times 0 is NaN."""
    return log_probs.clamp(min=-1e9)


def centered_head(beta: float) -> Head:
    """Beta times the sum over positions of the token's logit less the mean over the vocabulary."""

    def head(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        slopes = (tokens - 1 / tokens.shape[2]).mul_(beta)
        return (slopes * logits).sum((1, 2)), lambda: slopes

    return head


def sum_head(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """The sum over positions of the token's logit."""
    return (tokens * logits).sum((1, 2)), lambda: tokens.clone()


def last_logit_head(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """The first logit of the last position, whatever the token."""

    def slopes() -> torch.Tensor:
        derivatives = logits.new_zeros(logits.shape)
        derivatives[:, -1, 0] = 1
        return derivatives

    return logits[:, -1, 0], slopes


def mean_head(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """The mean over the vocabulary of the logits at each position, whatever the token."""
    return logits.mean(2), lambda: logits.new_full(logits.shape, 1 / logits.shape[2])
