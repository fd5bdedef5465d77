"""Group relative policy optimization (Shao et al. 2024): clipped steps on advantages within a prompt's samples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.losses import clipped_surrogate, group_normalized_advantage, k3_kl, kl_penalized_reward
from alignsim.methods.on_policy import Batch
from alignsim.methods.rl.base import PolicyGradient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class GRPO(PolicyGradient):
    """`conf/method/rl/grpo.yaml`.

    With `kl=loss`, as published, its optimum differs from that of the other optimizers, whatever the weight of the KL
    term. The KL term is then a loss of each token. Its gradient is that of KL(ref || pi) of the next token after the
    tokens that the policy sampled (see `k3_kl`), and it ignores the effect of a token on later ones. Only the reward is
    divided by the standard deviation, so the KL term weighs more where rewards differ by more than 1. The reward's part
    in the gradient is (K - 1) / K of the unbiased one, because each sample is part of its own baseline. All responses
    have T tokens; losses of tokens are summed, not averaged, so the mean of the KL loss is its weight times the KL
    divergence of responses.

    With `kl=reward` the KL term is part of the rewards that are normalized. With `kl_weight=1` it is then the same as
    in the other optimizers, and the gradient is zero at their optimum.

    Attributes:
        samples_per_prompt: responses of the policy to each prompt, at least 2.
        epochs: gradient steps on the same responses.
        clip: how far the ratio of a token's probability to that at sampling may move from 1, above 0.
        normalize_std: whether advantages are divided by the standard deviation of a prompt's rewards.
        kl: the place of the KL term: in the `loss` of each token, or in the `reward` of the response.
        kl_weight: weight of the KL term, in units of the run's beta, above 0.
    """

    steps: PositiveInt = yaml_default("method/rl/grpo", "steps")
    prompts_per_step: PositiveInt = yaml_default("method/rl/grpo", "prompts_per_step")
    samples_per_prompt: Annotated[int, Field(ge=2)] = yaml_default("method/rl/grpo", "samples_per_prompt")
    epochs: PositiveInt = yaml_default("method/rl/grpo", "epochs")
    clip: PositiveFloat = yaml_default("method/rl/grpo", "clip")
    normalize_std: bool = yaml_default("method/rl/grpo", "normalize_std")
    kl: Literal["loss", "reward"] = yaml_default("method/rl/grpo", "kl")
    kl_weight: PositiveFloat = yaml_default("method/rl/grpo", "kl_weight")
    learning_rate: PositiveFloat = yaml_default("method/rl/grpo", "learning_rate")
    weight_decay: NonNegativeFloat = yaml_default("method/rl/grpo", "weight_decay")
    warmup_steps: NonNegativeInt = yaml_default("method/rl/grpo", "warmup_steps")

    @property
    def gradient_steps(self) -> int:
        """The epochs."""
        return self.epochs

    def loss(self, batch: Batch, beta: float) -> torch.Tensor:
        """-sum_t min(w_t A, clip(w_t) A) + kl_weight beta sum_t k3_t, (S,).

        Shao et al. 2024, equation 3, with sums over tokens. With the KL term in the reward it is not in the loss.
        """
        in_loss, weight = self.kl == "loss", self.kl_weight * beta
        log_ratio = batch.policy.token_log_ratio(batch.prompts, batch.responses)  # (S, B, K, T)
        if batch.epoch == 0:
            # Group-normalized advantage, the same for all tokens of a response
            in_reward = kl_penalized_reward(batch.rewards, batch.log_ratio.detach(), weight)
            rewards = batch.rewards if in_loss else in_reward
            batch.token_log_ratio = log_ratio.detach()
            batch.advantages = group_normalized_advantage(rewards, self.normalize_std)[..., None]
        # Clipped surrogate
        gain = clipped_surrogate(log_ratio - batch.token_log_ratio, batch.advantages, self.clip)
        # KL term
        loss = weight * k3_kl(log_ratio) - gain if in_loss else -gain
        return loss.sum(-1).mean((1, 2))
