"""RL against the true reward, with nothing learned from pairs: what RL alone can reach, the ceiling of RLHF."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from alignsim.config.defaults import yaml_default
from alignsim.config.schema import STRICT
from alignsim.methods.base import Method, TrainingInputs, TrainingResult
from alignsim.methods.rl.base import PolicyOptimizer
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import train_policy_with_rlhf


@dataclass(frozen=True, config=STRICT)
class OracleRLHF(Method):
    """`conf/method/oracle_rlhf.yaml`: the second stage of `RLHF` with the true reward in place of a learned one."""

    rl: PolicyOptimizer = yaml_default("method/oracle_rlhf", "rl", RLOO)

    def train(self, inputs: TrainingInputs) -> TrainingResult:
        """Improve a policy against the true reward; the pairs are not used."""
        env, model = inputs.env, inputs.model
        policy = train_policy_with_rlhf(
            env, env.reward, beta=inputs.beta, model=model, settings=self.rl, monitor=inputs.monitor
        )
        return TrainingResult(policy, None, scorer=policy.log_ratio)
