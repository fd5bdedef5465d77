"""Whether it is the scale of what was learned that deterministic labels spoil: the same models, rewards rescaled.

python -m scripts.measurements.label_scale
"""

from alignsim import SimplifiedEnvironment, train_policy_with_dpo, train_policy_with_rlhf, train_reward_model
from alignsim.analysis.statistics import mean_interval
from alignsim.config.schema import Evaluation
from alignsim.envs.labels import BradleyTerry, Deterministic
from alignsim.evaluation.value import normalized_value, policy_value, reference_value
from alignsim.models.policy import Policy

SCALES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)
BETA = 0.5
LABELS = {"bradley_terry": BradleyTerry(), "deterministic": Deterministic()}


class Rescaled(Policy):
    """The policy that is optimal for a policy's implicit reward times a scale: pi(y|x) ~ ref (pi' / ref) ** scale."""

    def __init__(self, policy, scale):
        self.env, self._policy, self._scale = policy.env, policy, scale

    def log_ratio_of_all(self, prompts):
        tilt = self._scale * self._policy.log_ratio_of_all(prompts)
        return tilt - (tilt + self.env.reference_log_prob(prompts, self.env.all_responses())).logsumexp(-1, True)

    def sampler(self):
        raise NotImplementedError("its responses are enumerated")


def compare(labels, seeds):
    """Print one line for each scale: the normalized value of DPO and of RLHF, mean and 95 % interval."""
    env, evaluation = SimplifiedEnvironment(8, 8, 2.0, labels=LABELS[labels], seeds=tuple(range(seeds))), Evaluation()
    prompts, responses = env.prompts("evaluation", evaluation.prompts), env.all_responses()
    reference, optimum = reference_value(env, prompts, evaluation), env.optimal_value(BETA, prompts)
    dpo, reward_model = train_policy_with_dpo(env, beta=BETA), train_reward_model(env, beta=BETA)

    def shown(policy):
        value = policy_value(policy, BETA, prompts, evaluation).value
        interval = mean_interval(normalized_value(value, reference, optimum).numpy())
        return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"

    for scale in SCALES:
        rlhf = train_policy_with_rlhf(env, lambda x, y, c=scale: c * reward_model(x, y), beta=BETA)
        print(f"{labels:<14} {scale:>6}   {shown(Rescaled(dpo, scale)):<24}   {shown(rlhf)}", flush=True)
    learned, true = reward_model.rewards_of_all(prompts).std(-1).mean(), env.reward(prompts, responses).std(-1).mean()
    print(f"{'':<24}standard deviation of rewards: learned {learned:.2f}, true {true:.2f}", flush=True)


if __name__ == "__main__":
    print("labels          scale   DPO, its policy rescaled   RLHF, its reward rescaled")
    for labels in ("bradley_terry", "deterministic"):
        compare(labels, seeds=16)
