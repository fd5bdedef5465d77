"""The policy: a network's logits added to the reference policy's log-probabilities, token by token."""

from __future__ import annotations

from alignsim.lazy import torch
from alignsim.models.base import StackedModel, select


class PolicyModel(StackedModel):
    """pi(y | x) = prod_t softmax(log ref_t + logits_t)[y_t]; a fresh one is exactly the reference policy.

    Constructed as `PolicyModel(env, network=MADE())`; reads raw tokens.
    """

    def token_log_probs(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of every next token: (S, B, D), (S, B, K, T) -> (S, B, K, T, V)."""
        logits = self.network.logits(self.parameters, prompts, responses)
        return torch.log_softmax(self.env.reference_log_probs(prompts, responses) + logits, -1)

    def log_prob(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y | x): (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return select(self.token_log_probs(prompts, responses), responses).sum(-1)

    def log_ratio(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y | x) - log ref(y | x): (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return self.log_prob(prompts, responses) - self.env.reference_log_prob(prompts, responses)

    def sample(self, prompts: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """Responses written left to right: (S, B, D) and uniform numbers (S, B, K, T) -> (S, B, K, T), int64."""
        reference = self.env.reference_log_probs
        return self.network.sample(self.parameters, prompts, uniforms, lambda tokens: reference(prompts, tokens))
