"""The policy: a network's logits added to the reference policy's log-probabilities, token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from alignsim._lazy import torch
from alignsim.envs.base import Environment
from alignsim.models.base import StackedModel
from alignsim.models.heads import clamp_log_probs, log_ratio_head
from alignsim.models.network import to_kernel_layout


class Sampled(NamedTuple):
    """Responses sampled from a policy.

    Attributes:
        responses: (S, B, K, T), int64.
        log_ratio: log pi - log ref of each, (S, B, K), differentiable by the policy's parameters.
    """

    responses: torch.Tensor
    log_ratio: torch.Tensor


class Policy(ABC):
    """Anything that can be measured as a policy: a network's policy, or another rule that generates responses.

    Attributes:
        env: the environment, stacked over the seeds.
        uniforms_per_response: the number of responses' worth of random numbers that the sampler uses for one response.
    """

    env: Environment
    uniforms_per_response: int = 1

    @abstractmethod
    def log_ratio_of_all(self, prompts: torch.Tensor) -> torch.Tensor:
        """Log pi / ref of every response, in the order of `env.all_responses()`: (S, B, D) -> (S, B, V ** T)."""

    @abstractmethod
    def sampler(self) -> Callable[[torch.Tensor, torch.Tensor], Sampled]:
        """Return a sampler of K responses to each prompt.

        Its arguments are prompts, (S, B, D), and numbers in [0, 1), (S, B, K * uniforms_per_response, T). Where the
        log-ratio of a response is unknown it returns numbers whose mean is at least KL(pi || ref).
        """


class PolicyModel(StackedModel, Policy):
    """pi(y | x) = prod_t softmax(log ref_t + logits_t)[y_t]; a fresh one is exactly the reference policy.

    Constructed as `PolicyModel(env, network=MADE())`; reads raw tokens.
    """

    @classmethod
    def sharing(cls, model: StackedModel) -> PolicyModel:
        """The policy with the network and the parameters of another model, not copied."""
        policy = cls.__new__(cls)
        policy.env, policy.network, policy.parameters, policy.fit = model.env, model.network, model.parameters, None
        return policy

    def log_ratio(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y | x) - log ref(y | x): (S, B, D), (S, B, K, T) -> (S, B, K)."""
        reference = to_kernel_layout(self.env.reference_log_probs(prompts, responses))
        return self.score(prompts, responses, log_ratio_head(reference))

    def token_log_ratio(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi / ref of each token given the ones before it: (S, B, D), (S, B, K, T) -> (S, B, K, T)."""
        reference = to_kernel_layout(self.env.reference_log_probs(prompts, responses))
        return self.score(prompts, responses, log_ratio_head(reference, of_each_token=True)).permute(0, 2, 3, 1)

    def log_prob(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Log pi(y | x): (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return self.log_ratio(prompts, responses) + self.env.reference_log_prob(prompts, responses)

    def log_ratio_of_all(self, prompts: torch.Tensor) -> torch.Tensor:
        """Log pi / ref of every response, in the order of `env.all_responses()`: (S, B, D) -> (S, B, V ** T)."""
        with torch.no_grad():
            return self.differentiable_log_ratio_of_all(prompts)

    def differentiable_log_ratio_of_all(self, prompts: torch.Tensor) -> torch.Tensor:
        """Log pi / ref of every response with gradients, (S, B, D) -> (S, B, V ** T); each prefix is read once."""
        env = self.env
        total, conditionals = prompts.new_zeros(len(prompts), 1, prompts.shape[1]), env.reference_conditionals(prompts)
        for t, logits in enumerate(self.network.prefixes(self.parameters, prompts)):
            log_probs = conditionals.after(env.all_responses(t))  # broadcasts to (S, B, V ** t, V)
            reference = clamp_log_probs(log_probs[(None,) * (4 - log_probs.dim())].permute(0, 3, 2, 1))
            ratio = torch.log_softmax(logits + reference, 1) - reference
            total = (total[:, :, None] + ratio.transpose(1, 2)).flatten(1, 2)
        return total.mT

    def sample(self, prompts: torch.Tensor, samples: int = 1, *, uniforms: torch.Tensor | None = None) -> torch.Tensor:
        """Responses sampled left to right, (S, B, K, T), int64.

        Args:
            prompts: (S, B, D).
            samples: K, the number of responses to each prompt.
            uniforms: the numbers in [0, 1) that decide each token, (S, B, K, T), in place of `samples`. By default
                the stream "samples" of the environment, the same on every call.
        """
        if uniforms is None:
            shape = (prompts.shape[1], samples, self.env.output_dim)
            uniforms = self.env.streams.uniform("samples", shape)
        return self.sampler()(prompts, uniforms).responses

    def sampler(self) -> PolicySampler:
        """A sampler that samples responses and scores them in one pass through the network."""
        return PolicySampler(self)


class PolicySampler:
    """Samples from a policy. It follows the parameters of the policy when they are trained in place."""

    def __init__(self, policy: PolicyModel) -> None:
        self._policy, self._sampler = policy, policy.network.sampler(policy.parameters)

    def __call__(self, prompts: torch.Tensor, uniforms: torch.Tensor) -> Sampled:
        """Responses to prompts (S, B, D), determined by numbers in [0, 1), (S, B, K, T)."""
        env = self._policy.env
        responses, score = self._sampler(prompts, uniforms, env.reference_conditionals(prompts))
        return Sampled(responses, score(log_ratio_head(to_kernel_layout(env.reference_log_probs(prompts, responses)))))
