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

    def sample(self, prompts: torch.Tensor, samples: int = 1, *, uniforms: torch.Tensor | None = None) -> torch.Tensor:
        """Responses written left to right, (S, B, K, T), int64.

        Args:
            prompts: (S, B, D).
            samples: K, how many responses to each prompt.
            uniforms: the numbers in [0, 1) that decide each token, (S, B, K, T), in place of `samples`. By default
                the stream "samples" of the environment, the same on every call.
        """
        reference = self.env.reference_log_probs
        if uniforms is None:
            shape = (prompts.shape[1], samples, self.env.output_dim)
            uniforms = self.env.streams.uniform("samples", shape)
        return self.network.sample(self.parameters, prompts, uniforms, lambda tokens: reference(prompts, tokens))
