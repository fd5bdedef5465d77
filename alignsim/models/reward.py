"""The reward model: the policy's network read as a score of a response's content."""

from __future__ import annotations

from typing import Literal, NamedTuple

from alignsim.envs.base import Environment
from alignsim.lazy import torch
from alignsim.models.base import StackedModel, select
from alignsim.models.made import MADE


class Proposal(NamedTuple):
    """Responses to be weighted towards the soft-optimal policy of a reward model.

    Attributes:
        responses: (S, B, K, T), int64.
        log_prob: of each under the distribution that proposed it, (S, B, K).
    """

    responses: torch.Tensor
    log_prob: torch.Tensor


class RewardModel(StackedModel):
    """r(x, y) = beta sum_t (logits_t[z_t] - mean_v logits_t[v]) with z = read(y), or z = y.

    Centring over the vocabulary leaves the reward model no function of the prefix that a policy of the same network
    has not: with prefix connections cut, its loss on pairs is the DPO loss at complexity 1.

    Args:
        env: the environment whose shapes, content, seeds and device the model takes.
        network: the network's configuration, by default `MADE()`.
        beta: scale of the reward, above 0.
        reads: `content`, the verifier's view, or `tokens`, which makes verifying as hard as generating.

    Raises:
        ValueError: `beta` or `reads` is not one of these.
    """

    def __init__(
        self,
        env: Environment,
        network: MADE | None = None,
        *,
        beta: float = 0.5,
        reads: Literal["content", "tokens"] = "content",
    ) -> None:
        if not beta > 0:
            raise ValueError(f"beta={beta}: must be greater than 0")
        if reads not in ("content", "tokens"):
            raise ValueError(f"reads={reads}: must be content or tokens")
        super().__init__(env, network)
        self.beta = beta
        self.reads = reads

    def __call__(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Learned reward: (S, B, D), (S, B, K, T) -> (S, B, K)."""
        view = self.env.read(responses) if self.reads == "content" else responses
        logits = self.network.logits(self.parameters, prompts, view)
        return self.beta * (select(logits, view) - logits.mean(-1)).sum(-1)

    def propose(self, prompts: torch.Tensor, uniforms: torch.Tensor) -> Proposal:
        """Draw content from softmax(logits_t), left to right, and write it: close to the soft-optimal policy.

        Exactly the soft-optimal policy where the reference is uniform and the logits' normalisers do not depend on
        the prefix; elsewhere a proposal for importance sampling. (S, B, D), uniform numbers (S, B, K, T).
        """
        view = self.network.sample(
            self.parameters, prompts, uniforms, lambda tokens: torch.zeros_like(uniforms[..., None])
        )
        log_probs = torch.log_softmax(self.network.logits(self.parameters, prompts, view), -1)
        responses = self.env.write(view) if self.reads == "content" else view
        return Proposal(responses, select(log_probs, view).sum(-1))
