"""The reward model: a network of the policy's kind whose head makes a score of a response, in one of three ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from alignsim._lazy import torch
from alignsim.envs.base import Conditionals, Environment, sum_over_tokens
from alignsim.models.base import StackedModel
from alignsim.models.heads import centered_head, log_ratio_head
from alignsim.models.network import Network, ScalarReader, StackedNetwork, to_kernel_layout
from alignsim.models.policy import PolicyModel


class Proposal(NamedTuple):
    """Responses for importance sampling of the soft-optimal policy of a reward model.

    Attributes:
        responses: (S, B, K, T), int64.
        log_prob: log-probability of each under the distribution that proposed it, (S, B, K).
    """

    responses: torch.Tensor
    log_prob: torch.Tensor


class RewardModel(StackedModel):
    """A learned reward r(x, y), beta times what its head makes of a network that reads content, or tokens, as z.

    With the `tokenwise` head it is beta sum_t (logits_t[z_t] - mean_v logits_t[v]). Without the mean over the
    vocabulary the reward could contain a function of the prefix that no policy of the same network has; with it,
    and with prefix connections cut, the loss on pairs is the DPO loss at complexity 1. With `scalar` it is one
    number after reading all of z, as reward models have it in practice (Ouyang et al. 2022, section 3.5). With
    `implicit` it is beta log pi(y|x) / ref(y|x), the reward for which a policy pi of the network is optimal
    (Rafailov et al. 2023, equation 5 but for log Z): fitting it to pairs is DPO.

    Args:
        env: the environment whose shapes, content, seeds and device the model takes.
        network: the network's configuration, by default `MADE()`.
        beta: scale of the reward, above 0.
        reads: `content`, the verifier's view, or `tokens`, which makes verifying as hard as generating.
        head: `tokenwise`, `scalar` or `implicit`; `implicit` reads tokens.

    Raises:
        ValueError: `beta`, `reads` or `head` is not one of these, or an implicit reward is to read content.
    """

    def __init__(
        self,
        env: Environment,
        network: Network | None = None,
        *,
        beta: float = 0.5,
        reads: Literal["content", "tokens"] = "content",
        head: Literal["tokenwise", "scalar", "implicit"] = "tokenwise",
    ) -> None:
        if not beta > 0:
            raise ValueError(f"beta={beta}: must be greater than 0")
        if reads not in ("content", "tokens"):
            raise ValueError(f"reads={reads}: must be content or tokens")
        if head not in HEADS:
            raise ValueError(f"head={head}: must be {', '.join(HEADS)}")
        if problem := unreadable(head, reads):
            raise ValueError(f"head={head}: {problem}")
        self.beta = beta
        self.reads = reads
        self.head = HEADS[head]()
        super().__init__(env, network)

    def build(self, network: Network) -> StackedNetwork:
        """The network that the head needs."""
        return self.head.build(network, self.env)

    def __call__(self, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Learned reward: (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return self.reward_of_view(prompts, self.view(responses))

    def view(self, responses: torch.Tensor) -> torch.Tensor:
        """The view of responses that the model reads, content or tokens, (..., T) -> (..., T)."""
        return self.env.tokens_to_content(responses) if self.reads == "content" else responses

    def reward_of_view(self, prompts: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """Learned reward of views of responses, differentiable: (S, B, D), (S, B, K, T) -> (S, B, K)."""
        return self.head.reward(self, prompts, view)

    def rewards_of_all(self, prompts: torch.Tensor) -> torch.Tensor:
        """Learned reward of every response, in the order of `env.all_responses()`: (S, B, D) -> (S, B, V ** T)."""
        with torch.no_grad():
            return self.head.rewards_of_all(self, prompts)

    def propose(self, prompts: torch.Tensor, uniforms: torch.Tensor) -> Proposal:
        """Responses for importance sampling of the soft-optimal policy, without gradients.

        Args:
            prompts: (S, B, D).
            uniforms: numbers in [0, 1) that decide each token, (S, B, K, T).
        """
        with torch.no_grad():
            return self.head.propose(self, prompts, uniforms)


def unreadable(head: str, reads: str) -> str | None:
    """The message that says why a head cannot read content or tokens; None where it can."""
    if head == "implicit" and reads == "content":
        return "must be tokenwise or scalar where reads=content; the reward that a policy implies reads tokens"
    return None


class RewardHead(ABC):
    """The way in which a reward is computed from a network. The environment and parameters are the model's."""

    def build(self, network: Network, env: Environment) -> StackedNetwork:
        """The network whose parameters the reward model has."""
        return network.build(env.input_dim, env.output_dim, env.vocab_size, env.device)

    @abstractmethod
    def reward(self, model: RewardModel, prompts: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """Learned reward of views of responses, differentiable: (S, B, D), (S, B, K, T) -> (S, B, K)."""

    def rewards_of_all(self, model: RewardModel, prompts: torch.Tensor) -> torch.Tensor:
        """Learned reward of every response, (S, B, D) -> (S, B, V ** T); by default each response is read whole."""
        return self.reward(model, prompts, model.view(model.env.all_responses()))

    def propose(self, model: RewardModel, prompts: torch.Tensor, uniforms: torch.Tensor) -> Proposal:
        """Responses for importance sampling as `RewardModel.propose` says, by default from the reference policy."""
        responses = model.env.sample_reference(uniforms, prompts)
        return Proposal(responses, model.env.reference_log_prob(prompts, responses))


class Tokenwise(RewardHead):
    """The sum over positions of the token's logit less the mean over the vocabulary."""

    def reward(self, model: RewardModel, prompts: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """Learned reward of views of responses, (S, B, K)."""
        return model.score(prompts, view, centered_head(model.beta))

    def rewards_of_all(self, model: RewardModel, prompts: torch.Tensor) -> torch.Tensor:
        """Learned reward of every response, (S, B, D) -> (S, B, V ** T); each prefix is read once."""
        env, rewards = model.env, prompts.new_zeros(len(prompts), 1, prompts.shape[1])
        for logits in model.network.prefixes(model.parameters, prompts):
            centered = model.beta * (logits - logits.mean(1, keepdim=True))
            rewards = (rewards[:, :, None] + centered.transpose(1, 2)).flatten(1, 2)
        digits = env.vocab_size ** torch.arange(env.output_dim - 1, -1, -1, device=prompts.device)
        order = (model.view(env.all_responses()) * digits).sum(-1).flatten()  # the index of each response's view
        return rewards[:, order].mT

    def propose(self, model: RewardModel, prompts: torch.Tensor, uniforms: torch.Tensor) -> Proposal:
        """Sample content from softmax(log ref_t + logits_t), which is close to the soft-optimal policy.

        It is exactly the soft-optimal policy where the normalizers of the logits do not depend on the prefix and the
        environment knows the reference policy of what the model reads.
        """
        env = model.env
        if model.reads == "content":
            conditionals = Conditionals.from_log_probs(env, lambda content: env.content_log_probs(prompts, content))
        else:
            conditionals = env.reference_conditionals(prompts)
        view, score = model.network.sampler(model.parameters)(prompts, uniforms, conditionals)
        reference = (env.content_log_probs if model.reads == "content" else env.reference_log_probs)(prompts, view)
        log_prob = score(log_ratio_head(to_kernel_layout(reference))) + sum_over_tokens(reference, view, env.vocab_size)
        return Proposal(env.content_to_tokens(view) if model.reads == "content" else view, log_prob)


class Scalar(RewardHead):
    """One number after reading everything, determined by pairs only up to a function of the prompt.

    A baseline of one prompt cancels this function (RLOO, GRPO). The baseline of REINFORCE is that of the whole batch,
    and that of PPO has to learn it first: to them it is noise. Its mean shifts the learned rewards in
    training curves.
    """

    def build(self, network: Network, env: Environment) -> StackedNetwork:
        """The network of the scalar reader."""
        self._reader: ScalarReader = network.build_scalar(env.input_dim, env.output_dim, env.vocab_size, env.device)
        return self._reader.network

    def reward(self, model: RewardModel, prompts: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """Learned reward of views of responses, (S, B, K)."""
        return model.beta * self._reader(model.parameters, prompts, view)


class Implicit(RewardHead):
    """beta log pi / ref, where pi is a policy with the model's network and parameters: its soft-optimal policy."""

    def policy(self, model: RewardModel) -> PolicyModel:
        """The policy pi, which shares the parameters of the model."""
        return PolicyModel.sharing(model)

    def reward(self, model: RewardModel, prompts: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """Learned reward of views of responses, (S, B, K)."""
        return model.beta * self.policy(model).log_ratio(prompts, view)

    def rewards_of_all(self, model: RewardModel, prompts: torch.Tensor) -> torch.Tensor:
        """Learned reward of every response, (S, B, D) -> (S, B, V ** T); each prefix is read once."""
        return model.beta * self.policy(model).log_ratio_of_all(prompts)

    def propose(self, model: RewardModel, prompts: torch.Tensor, uniforms: torch.Tensor) -> Proposal:
        """Samples of the soft-optimal policy itself."""
        responses, log_ratio = self.policy(model).sampler()(prompts, uniforms)
        return Proposal(responses, log_ratio + model.env.reference_log_prob(prompts, responses))


#: The heads by their names in configuration.
HEADS: dict[str, type[RewardHead]] = {"tokenwise": Tokenwise, "scalar": Scalar, "implicit": Implicit}
