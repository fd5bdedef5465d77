"""The plain way: what one would write for this study without alignsim. One seed at a time, and nothing clever.

The same networks, data, losses, optimizer, schedule, early stopping and measure as in alignsim, as a module, a data
loader and two loops. An environment of one seed is used for its pairs, its reward and how a response is read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 (the name that everybody gives it)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.envs.pairs import Preferences
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.models.made import MADE

#: Gets the number of steps so far, wherever alignsim reports to its monitor.
OnSteps = Callable[[int], object]


def ignore_steps(step: int) -> None:
    """Do nothing."""


class MaskedLinear(nn.Linear):
    """A linear layer whose masked weights are zero; `mask` is (outputs, inputs)."""

    mask: Tensor

    def __init__(self, mask: Tensor, generator: torch.Generator) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())
        bound = mask.sum(1).clamp(min=1).rsqrt()  # of each unit's own inputs
        with torch.no_grad():
            self.weight.uniform_(-1, 1, generator=generator).mul_(bound[:, None])
            self.bias.uniform_(-1, 1, generator=generator).mul_(bound)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        return F.linear(inputs, self.weight * self.mask, self.bias)


class PlainMADE(nn.Module):
    """Logits over each token from a prompt and the tokens before it: (N, D), (N, T) -> (N, T, V)."""

    codes: Tensor

    def __init__(self, env: Environment, network: MADE, generator: torch.Generator) -> None:
        super().__init__()
        self.length, self.vocab, width = env.output_dim, env.vocab_size, network.hidden_dim
        degrees = torch.arange(width) * self.length // width
        positions = torch.arange(self.length).repeat_interleave(self.vocab)
        sees_tokens = (positions < degrees[:, None]) & network.autoregressive
        masks = [torch.cat([torch.ones(width, env.input_dim, dtype=torch.bool), sees_tokens], 1)]
        masks += [degrees <= degrees[:, None]] * (network.n_layers - 1)
        layers: list[nn.Module] = []
        for mask in masks:
            layers += [MaskedLinear(mask, generator), nn.ReLU()]
        last = MaskedLinear(degrees <= positions[:, None], generator)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)
        p = 1 / self.vocab
        self.register_buffer("codes", (torch.eye(self.vocab) - p) / math.sqrt(p * (1 - p)))
        self.to(env.device)

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """(N, D), (N, T) -> (N, T, V)."""
        inputs = torch.cat([prompts, F.embedding(tokens, self.codes).flatten(1)], 1)
        logits: Tensor = self.layers(inputs)
        return logits.view(-1, self.length, self.vocab)

    def log_prob(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """Log pi(y | x), the reference policy being uniform: (N, D), (N, T) -> (N,)."""
        log_probs = torch.log_softmax(self(prompts, tokens), -1)
        return chosen(log_probs, tokens).sum(-1)

    def score(self, prompts: Tensor, content: Tensor, beta: float) -> Tensor:
        """The reward of a response's content, the network being a reward model: (N, D), (N, T) -> (N,)."""
        logits: Tensor = self(prompts, content)
        return beta * (chosen(logits, content) - logits.mean(-1)).sum(-1)

    @torch.no_grad()
    def sample(self, prompts: Tensor, generator: torch.Generator) -> Tensor:
        """A response to each prompt, a token and a pass through the network at a time: (N, D) -> (N, T)."""
        tokens = torch.zeros(len(prompts), self.length, dtype=torch.long, device=prompts.device)
        for t in range(self.length):
            probabilities = self(prompts, tokens)[:, t].softmax(-1)
            tokens[:, t] = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        return tokens


def chosen(values: Tensor, tokens: Tensor) -> Tensor:
    """The entry of each token: (..., T, V), (..., T) -> (..., T)."""
    return values.gather(-1, tokens[..., None]).squeeze(-1)


#: From the prompts (B, D) and responses (B, 2, T), chosen first, of a batch of pairs to the loss of each, (B,).
PairLoss = Callable[[Tensor, Tensor], Tensor]


def dpo_loss(policy: PlainMADE, beta: float) -> PairLoss:
    """The loss of DPO; a uniform reference policy cancels in it."""

    def loss(prompts: Tensor, responses: Tensor) -> Tensor:
        log_probs = policy.log_prob(prompts.repeat_interleave(2, 0), responses.flatten(0, 1)).view(-1, 2)
        return -F.logsigmoid(beta * (log_probs[:, 0] - log_probs[:, 1]))

    return loss


def bradley_terry_loss(reward_model: PlainMADE, env: Environment, beta: float) -> PairLoss:
    """The negative log-likelihood of preferences."""

    def loss(prompts: Tensor, responses: Tensor) -> Tensor:
        content = env.tokens_to_content(responses).flatten(0, 1)
        rewards = reward_model.score(prompts.repeat_interleave(2, 0), content, beta).view(-1, 2)
        return -F.logsigmoid(rewards[:, 0] - rewards[:, 1])

    return loss


def train_policy_with_dpo(
    env: Environment, settings: PreferenceFitConfig, beta: float, network: MADE, on_steps: OnSteps = ignore_steps
) -> PlainMADE:
    """DPO on the pairs of an environment of one seed."""
    policy = PlainMADE(env, network, _generator(env, "cpu"))
    _fit(policy, dpo_loss(policy, beta), env, settings, on_steps)
    return policy


def train_reward_model(
    env: Environment, settings: PreferenceFitConfig, beta: float, network: MADE, on_steps: OnSteps = ignore_steps
) -> PlainMADE:
    """A reward model by maximum likelihood on the pairs of an environment of one seed."""
    reward_model = PlainMADE(env, network, _generator(env, "cpu"))
    _fit(reward_model, bradley_terry_loss(reward_model, env, beta), env, settings, on_steps)
    return reward_model


def _fit(model: PlainMADE, loss: PairLoss, env: Environment, settings: PreferenceFitConfig, on_steps: OnSteps) -> None:
    data = env.preference_data()
    loader = _loader(data.train, settings, _generator(env, "cpu"))
    validation = data.validation.prompts[0], data.validation.responses[0]
    optimizer, schedule = _optimizer(model, settings)
    with torch.no_grad():
        best_loss = loss(*validation).mean().item()
    best, checks_without_improvement = copy.deepcopy(model.state_dict()), 0
    for step, (prompts, responses) in enumerate(_endless(loader), 1):
        optimizer.zero_grad()
        loss(prompts.to(env.device), responses.to(env.device)).mean().backward()
        optimizer.step()
        schedule.step()
        if step % settings.validate_every == 0 or step == settings.steps:
            with torch.no_grad():
                current = loss(*validation).mean().item()
            checks_without_improvement += 1
            if current < best_loss:
                best_loss, best, checks_without_improvement = current, copy.deepcopy(model.state_dict()), 0
            on_steps(step)
        if step == settings.steps or checks_without_improvement == settings.patience:
            break
    model.load_state_dict(best)


def train_policy_with_rlhf(
    env: Environment,
    reward_model: PlainMADE,
    settings: RLOO,
    beta: float,
    network: MADE,
    on_steps: OnSteps = ignore_steps,
) -> PlainMADE:
    """RLOO against a reward model, in an environment of one seed."""
    policy, generator = PlainMADE(env, network, _generator(env, "cpu")), _generator(env, env.device)
    optimizer, schedule = _optimizer(policy, settings)
    shape = (settings.prompts_per_step, settings.samples_per_prompt)
    for step in range(1, settings.steps + 1):
        prompts = torch.randn(settings.prompts_per_step, env.input_dim, generator=generator, device=env.device)
        prompts = prompts.repeat_interleave(settings.samples_per_prompt, 0)
        responses = policy.sample(prompts, generator)
        with torch.no_grad():
            rewards = reward_model.score(prompts, env.tokens_to_content(responses), beta)
        log_ratio = policy.log_prob(prompts, responses) + env.output_dim * math.log(env.vocab_size)
        penalized = (rewards - beta * log_ratio.detach()).view(shape)
        others = (penalized.sum(1, keepdim=True) - penalized) / (settings.samples_per_prompt - 1)
        optimizer.zero_grad()
        (-(penalized - others) * log_ratio.view(shape)).mean().backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == settings.steps:
            on_steps(step)
    return policy


@torch.no_grad()
def policy_value(policy: PlainMADE, env: Environment, beta: float, evaluation: Evaluation) -> float:
    """E[r*] - beta KL(policy || reference) on held-out prompts, by listing every response."""
    prompts = env.prompts("evaluation", evaluation.prompts)[0]  # (P, D)
    responses = env.all_responses()[0, 0]  # (N, T)
    total = torch.zeros((), device=env.device)
    for x in prompts.split(64):
        log_probs = policy.log_prob(x.repeat_interleave(len(responses), 0), responses.repeat(len(x), 1))
        log_probs = log_probs.view(len(x), -1)
        rewards = env.reward(x[None], responses[None, None])[0]
        log_ratio = log_probs + env.output_dim * math.log(env.vocab_size)
        total += (log_probs.exp() * (rewards - beta * log_ratio)).sum()
    return float(total / len(prompts))


def _loader(
    pairs: Preferences, settings: PreferenceFitConfig, generator: torch.Generator
) -> DataLoader[tuple[Tensor, ...]]:
    dataset = TensorDataset(pairs.prompts[0].cpu(), pairs.responses[0].cpu())
    size = min(settings.batch_size, len(dataset))
    return DataLoader(dataset, batch_size=size, shuffle=True, drop_last=True, generator=generator)


def _endless(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader


def _optimizer(
    model: PlainMADE, settings: PreferenceFitConfig | RLOO
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    warmup, steps = settings.warmup_steps, settings.steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _generator(env: Environment, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(env.seeds[0])
