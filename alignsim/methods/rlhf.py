"""Two-stage RLHF: a reward model by maximum likelihood on the pairs, then on-policy RL against it.

Christiano et al. 2017; Bai et al. 2022; Ouyang et al. 2022.
"""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT
from alignsim.envs.base import Environment
from alignsim.methods.base import Monitor, TrainingInputs
from alignsim.methods.on_policy import Reward
from alignsim.methods.rl.base import PolicyOptimizer
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.two_stage import TwoStageMethod
from alignsim.models.config import ModelConfig
from alignsim.models.policy import PolicyModel
from alignsim.models.reward import RewardModel


@dataclass(frozen=True, config=STRICT)
class RLHF(TwoStageMethod):
    """`conf/method/rlhf.yaml`.

    Attributes:
        rl: how the policy is improved against the reward model.
    """

    rl: PolicyOptimizer = field(default_factory=RLOO)

    def policy_for(self, reward_model: RewardModel, inputs: TrainingInputs) -> PolicyModel:
        """Improve a fresh policy against the reward model."""
        return train_policy_with_rlhf(
            inputs.env, reward_model, beta=inputs.beta, model=inputs.model, settings=self.rl, monitor=inputs.monitor
        )


def train_policy_with_rlhf(
    env: Environment,
    reward: Reward,
    *,
    beta: float = 0.5,
    model: ModelConfig | None = None,
    settings: PolicyOptimizer | None = None,
    monitor: Monitor | None = None,
) -> PolicyModel:
    """Improve a fresh policy against a reward by RL, every seed at once.

    Args:
        env: the environment, stacked over its seeds.
        reward: a `RewardModel`, or any function (S, B, D), (S, B, K, T) -> (S, B, K); `env.reward` is the true one.
        beta: weight of the KL term, above 0.
        model: the models' configuration.
        settings: how the policy is improved, by default `RLOO()`.
        monitor: gets the mean reward and the KL divergence.

    Returns:
        The policy after the last step.
    """
    policy = (model or ModelConfig()).new_policy(env)
    (settings or RLOO()).improve(policy, reward, beta, stage="rl", monitor=monitor or Monitor())
    return policy
