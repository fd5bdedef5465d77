"""Which contents preference data shows, and sampling from these alone, for any vocabulary and length.

Every token v at position t has a random key, and the keys of a content's tokens, summed modulo `RESIDUES`, decide.
Contents are sampled token by token, each token weighted by the probability that the rest completes a covered content;
nothing is enumerated or rejected.
"""

from __future__ import annotations

from alignsim._lazy import torch
from alignsim.envs.rng import Streams

#: Sums of keys are taken modulo this; the share of contents that is covered is a multiple of its inverse.
RESIDUES = 256

#: Numbers held at once for the chances, all seeds together: bounds memory.
_NUMBERS_AT_ONCE = 2**24


def new_keys(streams: Streams, output_dim: int, vocab_size: int) -> torch.Tensor:
    """Keys of every position and token, (S, T, V), int64 in [0, RESIDUES); one random content has the sum 0."""
    keys = (streams.uniform("coverage.keys", (output_dim, vocab_size)) * RESIDUES).long()
    one = (streams.uniform("coverage.content", (output_dim, 1)) * vocab_size).long().clamp(max=vocab_size - 1)
    return (keys - keys.gather(-1, one)) % RESIDUES


def covered_residues(share: float) -> int:
    """The number of residues, counted from 0, that belong to covered contents, at least 1."""
    return max(round(share * RESIDUES), 1)


def is_covered(keys: torch.Tensor, share: float, content: torch.Tensor) -> torch.Tensor:
    """Whether contents may be shown: (S, T, V), (S, B, K, T) -> (S, B, K).

    True of one content for certain, of each other one with probability `covered_residues(share) / RESIDUES` over keys,
    independently for any two of them.
    """
    every = keys[:, None, None].expand(*content.shape, keys.shape[-1])
    return every.gather(-1, content[..., None]).squeeze(-1).sum(-1) % RESIDUES < covered_residues(share)


def sample_covered(log_probs: torch.Tensor, keys: torch.Tensor, share: float, uniforms: torch.Tensor) -> torch.Tensor:
    """Contents from prod_t p_t(z_t) given that they are covered, exactly, (S, B, K, T), int64.

    Args:
        log_probs: log p_t(v) of every position, (S, B, T, V); B may be 1, and S too.
        keys: of `new_keys`, (S, T, V).
        share: the share of contents that is covered, in (0, 1].
        uniforms: numbers in [0, 1) that decide each token by the inverse distribution function, (S, B, K, T).
    """
    log_probs = log_probs.expand(len(keys), -1, -1, -1)
    if log_probs.shape[1] == 1:
        return _sampled(log_probs, keys, share, uniforms)
    _, length, vocab_size = keys.shape
    at_once = max(_NUMBERS_AT_ONCE // (len(keys) * RESIDUES * (length + vocab_size)), 1)
    parts = zip(log_probs.split(at_once, 1), uniforms.split(at_once, 1), strict=True)
    return torch.cat([_sampled(p, keys, share, u) for p, u in parts], 1)


def _sampled(log_probs: torch.Tensor, keys: torch.Tensor, share: float, uniforms: torch.Tensor) -> torch.Tensor:
    chances = _log_chances(log_probs, keys, share)
    residue = torch.zeros(uniforms.shape[:-1], dtype=torch.long, device=keys.device)  # of the tokens so far, (S, B, K)
    content = []
    for t, u in enumerate(uniforms.unbind(-1)):
        after = (residue[..., None] + keys[:, None, None, t]) % RESIDUES  # with each token, (S, B, K, V)
        chance = chances[t + 1].expand(*residue.shape[:2], -1).gather(-1, after.flatten(2)).view(after.shape)
        up_to = (log_probs[:, :, None, t] + chance).softmax(-1).cumsum(-1)
        # Scaled by the last cumulative probability, so that rounding cannot choose a token of probability 0
        token = ((u * up_to[..., -1])[..., None] >= up_to[..., :-1]).sum(-1, keepdim=True)
        residue = after.gather(-1, token).squeeze(-1)
        content.append(token)
    return torch.cat(content, -1)


def _log_chances(log_probs: torch.Tensor, keys: torch.Tensor, share: float) -> list[torch.Tensor]:
    """Log-probabilities that a content is covered, given the sum of its first t keys: (S, B, RESIDUES), t = 0 ... T.

    They are computed from the last position backward: the chance of a sum at t is the mean over tokens v, weighted by
    p_t(v), of the chance of that sum plus the key of v at t + 1.
    """
    residues = torch.arange(RESIDUES, device=keys.device)
    covered = torch.where(residues < covered_residues(share), 0.0, -torch.inf)
    chances = [covered.expand(*log_probs.shape[:2], -1)]
    for t in range(keys.shape[1] - 1, -1, -1):
        after = ((residues[:, None] + keys[:, None, t]) % RESIDUES).flatten(1)  # (S, RESIDUES * V)
        log_chances = (
            chances[-1].gather(-1, after[:, None].expand(*log_probs.shape[:2], -1)).unflatten(-1, (RESIDUES, -1))
        )
        chances.append((log_probs[:, :, None, t] + log_chances).logsumexp(-1))
    return chances[::-1]
