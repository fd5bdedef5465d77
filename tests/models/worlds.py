"""Environments, networks and models that the tests of this folder share."""

import torch

from alignsim import PolicyModel, SimplifiedEnvironment


class SampledReference(SimplifiedEnvironment):
    """A world whose reference policy is sampled as its log-probabilities say."""

    def sample_reference(self, uniforms, prompts):
        return PolicyModel(self).sample(prompts, uniforms=uniforms)


class Alternating(SampledReference):
    """A reference policy that likes to repeat the token before, more so where the prompt's first number is large."""

    def reference_log_probs(self, prompts, responses):
        tokens = responses.expand(*prompts.shape[:2], -1, -1)
        before = torch.nn.functional.one_hot(tokens, self.vocab_size).roll(1, -2).float()
        before[..., 0, :] = 0
        return (before * (1 + prompts[..., :1, None, None].abs())).log_softmax(-1)


class Biased(SampledReference):
    """A reference policy with the same preference for later tokens everywhere, in the smallest shape."""

    def reference_log_probs(self, prompts, responses):
        return torch.arange(self.vocab_size).float().log_softmax(-1)


class Forbidding(SampledReference):
    """A reference policy that never generates token 0 in the second position."""

    def reference_log_probs(self, prompts, responses):
        allowed = torch.zeros(self.output_dim, self.vocab_size)
        allowed[1, 0] = -torch.inf
        return allowed.log_softmax(-1)


class Various(SampledReference):
    """A reference policy of each seed's own."""

    def reference_log_probs(self, prompts, responses):
        return self.streams.normal("reference", (1, 1, 1, self.vocab_size)).log_softmax(-1)


WORLDS = [SimplifiedEnvironment, Alternating, Biased, Forbidding, Various]


def environment(complexity_factor=2.0, kind=SimplifiedEnvironment, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "vocab_size": 2, "seeds": (1, 2), "n_pairs": 200} | changes
    return kind(complexity_factor=complexity_factor, **settings)


def shaken(model, scale=0.5, dtype=torch.float32):
    """The model with every parameter random, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: scale * torch.randn(p.shape, generator=generator) for name, p in model.parameters.items()}
    moved = model.network.masked({name: p + noise[name] for name, p in model.parameters.items()})
    model.parameters = {name: p.to(dtype) for name, p in moved.items()}
    return model


def with_gradients(model):
    """The parameters of a model, as leaves of autograd."""
    for p in model.parameters.values():
        p.requires_grad_(True)
    return list(model.parameters.values())
