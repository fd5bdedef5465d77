"""The straightforward way to stack RL over seeds: batched matrix products, autograd, and a whole pass for every token.

What one would write first of all; alignsim's own loop is compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from alignsim.envs.base import Environment
from alignsim.methods.rl.rloo import RLOO
from alignsim.models.made import MADE
from scripts.benchmarking.plain import MaskedLinear, PlainMADE, chosen


class StackedMADE:
    """`PlainMADE` for S seeds: (S, N, D), (S, N, T) -> (S, N, T, V)."""

    def __init__(self, env: Environment, network: MADE) -> None:
        generator = torch.Generator().manual_seed(0)
        each = [PlainMADE(env, network, generator) for _ in env.seeds]
        self.one = each[0]  # for shapes, masks and codes
        layers = zip(*[[m for m in model.layers if isinstance(m, MaskedLinear)] for model in each], strict=True)
        self.weights, self.biases, self.masks = [], [], []
        for layer in layers:
            self.weights.append(torch.stack([m.weight.detach().T for m in layer]).requires_grad_())  # (S, in, out)
            self.biases.append(torch.stack([m.bias.detach()[None] for m in layer]).requires_grad_())  # (S, 1, out)
            self.masks.append(layer[0].mask.T)

    def __call__(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """Logits, (S, N, T, V)."""
        hidden = torch.cat([prompts, torch.nn.functional.embedding(tokens, self.one.codes).flatten(2)], 2)
        for i, (weight, bias, mask) in enumerate(zip(self.weights, self.biases, self.masks, strict=True)):
            hidden = torch.baddbmm(bias, hidden if i == 0 else hidden.relu(), weight * mask)
        logits: Tensor = hidden.unflatten(2, (self.one.length, self.one.vocab))
        return logits

    def log_prob(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """Log pi(y | x), (S, N)."""
        log_probs = self(prompts, tokens).log_softmax(-1)
        return chosen(log_probs, tokens).sum(-1)

    @torch.no_grad()
    def score(self, prompts: Tensor, content: Tensor, beta: float) -> Tensor:
        """The reward of content, (S, N)."""
        logits = self(prompts, content)
        return beta * (chosen(logits, content) - logits.mean(-1)).sum(-1)

    @torch.no_grad()
    def sample(self, prompts: Tensor) -> Tensor:
        """Responses, (S, N, T)."""
        tokens = torch.zeros(*prompts.shape[:2], self.one.length, dtype=torch.long, device=prompts.device)
        for t in range(self.one.length):
            probabilities = self(prompts, tokens)[:, :, t].softmax(-1)
            tokens[:, :, t] = torch.multinomial(probabilities.flatten(0, 1), 1).view(prompts.shape[:2])
        return tokens


def train_policy_with_rlhf(
    env: Environment, settings: RLOO, beta: float, network: MADE, on_steps: Callable[[int], object]
) -> None:
    """RLOO of all seeds in one stack against an untrained reward model: for its time, not for its policy."""
    policy, reward_model = StackedMADE(env, network), StackedMADE(env, network)
    optimizer = torch.optim.AdamW([*policy.weights, *policy.biases], lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    shape = (len(env.seeds), settings.prompts_per_step, settings.samples_per_prompt)
    for step in range(1, settings.steps + 1):
        prompts = torch.randn(len(env.seeds), settings.prompts_per_step, env.input_dim, device=env.device)
        prompts = prompts.repeat_interleave(settings.samples_per_prompt, 1)
        responses = policy.sample(prompts)
        rewards = reward_model.score(prompts, env.tokens_to_content(responses), beta)
        log_ratio = policy.log_prob(prompts, responses) + env.output_dim * math.log(env.vocab_size)
        penalized = (rewards - beta * log_ratio.detach()).view(shape)
        others = (penalized.sum(2, keepdim=True) - penalized) / (settings.samples_per_prompt - 1)
        optimizer.zero_grad()
        (-(penalized - others) * log_ratio.view(shape)).mean((1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == settings.steps:
            on_steps(step)
