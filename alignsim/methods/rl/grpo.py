"""Group relative policy optimisation (Shao et al. 2024): clipped steps on advantages within a prompt's samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.methods.losses import clipped_surrogate, group_normalised_advantage, k3_kl, kl_penalised_reward
from alignsim.methods.rl.base import Batch, PolicyGradient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class GRPO(PolicyGradient):
    """`conf/method/rl/grpo.yaml`.

    As published, and therefore with another optimum than the other optimisers, whatever the weight of the KL term. That
    term is a loss of each token, whose gradient is that of KL(ref || pi) of the next token after what the policy wrote
    (see `k3_kl`): the other way round, and blind to what a token does to later ones. Only the reward is divided by the
    standard deviation, so that the KL term weighs more where rewards differ by more than 1; and its part in the
    gradient is (K - 1) / K of that without a sample in its own baseline. All responses have T tokens: the losses of
    tokens are summed, not averaged, so that the mean of the KL loss is its weight times the KL divergence of responses.

    With `kl=reward` the KL term is in the rewards that are normalised. Only with `kl_weight=1` is it then that of the
    other optimisers, and the gradient zero at their optimum.

    Attributes:
        samples: responses that the policy writes to each prompt, at least 2.
        inner_steps: gradient steps on the same responses.
        clip: how far the ratio of a token's probability to that when it was written may move from 1, above 0.
        scale: whether advantages are divided by the standard deviation of a prompt's rewards.
        kl: where the KL term is: in the `loss`, of each token, or in the `reward`, of the response.
        kl_weight: of the KL term, in units of the run's beta, above 0.
    """

    steps: PositiveInt = 2456
    learning_rate: PositiveFloat = 4.27e-3
    weight_decay: NonNegativeFloat = 1.91e-3
    samples: Annotated[int, Field(ge=2)] = 4
    inner_steps: PositiveInt = 2
    clip: PositiveFloat = 0.2
    scale: bool = True
    kl: Literal["loss", "reward"] = "loss"
    kl_weight: PositiveFloat = 0.385

    def losses(self, batch: Batch, beta: float) -> Iterator[torch.Tensor]:
        """-sum_t min(w_t A, clip(w_t) A) + kl_weight beta sum_t k3_t for each inner step.

        Equation 3 with sums over tokens. With the KL term in the reward it is gone from the loss.
        """
        in_loss, weight = self.kl == "loss", self.kl_weight * beta
        rewards = batch.rewards if in_loss else kl_penalised_reward(batch.rewards, batch.log_ratio.detach(), weight)
        advantage = group_normalised_advantage(rewards, self.scale)[..., None]
        written: torch.Tensor | None = None
        for _ in range(self.inner_steps):
            log_ratio = batch.policy.token_log_ratio(batch.prompts, batch.responses)  # (S, B, K, T)
            written = log_ratio.detach() if written is None else written
            gain = clipped_surrogate(log_ratio - written, advantage, self.clip)
            loss = weight * k3_kl(log_ratio) - gain if in_loss else -gain
            yield loss.sum(-1).mean((1, 2))
