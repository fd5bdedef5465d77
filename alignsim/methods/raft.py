"""RAFT, reward-ranked fine-tuning (Dong et al. 2023): the policy repeatedly imitates the best of its own responses."""

from __future__ import annotations

import copy
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.base import Monitor, TrainingInputs
from alignsim.methods.on_policy import Batch, OnPolicyConfig, Reward, SampledLearner, train_on_policy
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ImitationConfig(OnPolicyConfig):
    """How a policy is fitted to the best of its own responses.

    Attributes:
        samples_per_prompt: K, responses to each prompt, at least 2, of which the best is imitated.
        steps_per_iteration: steps on responses of the policy at the start of the iteration.
    """

    steps: PositiveInt = yaml_default("method/raft", "imitation.steps")
    learning_rate: PositiveFloat = yaml_default("method/raft", "imitation.learning_rate")
    weight_decay: NonNegativeFloat = yaml_default("method/raft", "imitation.weight_decay")
    samples_per_prompt: Annotated[int, Field(ge=2)] = yaml_default("method/raft", "imitation.samples_per_prompt")
    steps_per_iteration: PositiveInt = yaml_default("method/raft", "imitation.steps_per_iteration")


@dataclass(frozen=True, config=STRICT)
class RAFT(TwoStageMethod):
    """`conf/method/raft.yaml`.

    Its objective has no KL term and does not depend on beta: trained forever, the policy would only generate the
    response that the reward model likes best. After j perfectly fitted iterations it is the best of K^j responses of
    the reference, so the number of iterations and K determine how far it goes.

    Attributes:
        imitation: how the policy is fitted to its own best responses.
    """

    reward_fit: PreferenceFitConfig = yaml_default("method/raft", "reward_fit", PreferenceFitConfig)
    imitation: ImitationConfig = yaml_default("method/raft", "imitation", ImitationConfig)

    def policy_for(self, reward_model: RewardModel, inputs: TrainingInputs) -> PolicyModel:
        """Fit a fresh policy to the best of its own responses."""
        policy = inputs.model.new_policy(inputs.env)
        imitate_best(policy, reward_model, self.imitation, beta=inputs.beta, monitor=inputs.monitor)
        return policy


def imitate_best(
    policy: PolicyModel, reward: Reward, config: ImitationConfig, *, beta: float, monitor: Monitor
) -> None:
    """Descend -log pi(best of K responses), responses of the policy as the iteration began. The last weights are kept.

    Dong et al. 2023, algorithm 1, with fresh prompts and responses in every step of an iteration.

    Args:
        policy: trained in place.
        reward: of responses, only ever evaluated; the first of equally good ones is the best.
        config: steps, iterations, samples.
        beta: weight of the KL term in the objective that is reported; training does not depend on it.
        monitor: gets the mean reward, KL and objective of the samples since the last report.
    """
    train_on_policy(_ImitationLearner(policy, reward, config), policy, config, beta, stage="raft", monitor=monitor)


class _ImitationLearner(SampledLearner):
    """Learns by the likelihood of the best response to each prompt; responses are those of a frozen copy."""

    def __init__(self, policy: PolicyModel, reward: Reward, config: ImitationConfig) -> None:
        frozen = copy.copy(policy)  # the policy as the iteration began
        frozen.parameters = {name: p.detach().clone() for name, p in policy.parameters.items()}
        super().__init__(policy, reward, config.prompts_per_step, config.samples_per_prompt, generator=frozen)
        self.buffers, self._steps_per_iteration = frozen.parameters, config.steps_per_iteration

    def loss(self, batch: Batch) -> torch.Tensor:
        """-log pi/ref of the best responses, which is -log pi up to a constant, (S,)."""
        best = batch.rewards.argmax(-1)[..., None, None].expand(-1, -1, 1, batch.responses.shape[-1])
        return -self.policy.log_ratio(batch.prompts, batch.responses.gather(2, best)).mean((1, 2))

    def end_step(self, step: int) -> None:
        """At the end of an iteration the frozen copy becomes the policy."""
        if step % self._steps_per_iteration == 0:
            for name, p in self.buffers.items():
                p.copy_(self.policy.parameters[name].detach())
