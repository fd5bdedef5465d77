"""Scores of responses that autograd can differentiate, also where a network's own gradient is derived by hand.

A score is a number for each response, such as a log-probability ratio or a reward. A `Head` computes it from the
logits; autograd differentiates what a method does with scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: A function from logits and one-hot tokens, (S, T, V, K, B) both, to scores, (S, K, B) or for each token (S, T, K, B),
#: and to a function that returns the derivatives of their sum by the logits, (S, T, V, K, B). Autograd may
#: differentiate the scores instead.
Head = Callable[["torch.Tensor", "torch.Tensor"], "tuple[torch.Tensor, Callable[[], torch.Tensor]]"]


def log_ratio_head(reference: torch.Tensor, of_each_token: bool = False) -> Head:
    """The head for log pi(y | x) / ref(y | x), or for the log-ratio of each token given the ones before it.

    Args:
        reference: log-probabilities of the reference policy, broadcastable to (S, T, V, K, B).
        of_each_token: whether the head returns the log-ratio of each token instead of their sum.
    """
    reference = clamp_log_probs(reference)

    def head(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        log_probs = (logits + reference).log_softmax(2)
        log_ratios = (log_probs - reference).mul_(tokens).sum(2 if of_each_token else (1, 2))
        return log_ratios, lambda: log_probs.exp_().neg_().add_(tokens)

    return head


def clamp_log_probs(log_probs: torch.Tensor) -> torch.Tensor:
    """Log-probabilities with -1e9 in place of minus infinity: the exponential is 0, the product with 0 is not NaN."""
    return log_probs.clamp(min=-1e9)


def centered_head(beta: float) -> Head:
    """The head for beta times the sum over positions of the token's logit less the mean over the vocabulary."""

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
