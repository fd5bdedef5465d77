"""Every measure of a trained method, one number for each seed: the columns of a row of `results.csv`."""

from __future__ import annotations

from alignsim._lazy import torch
from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.evaluation.value import normalized_value, policy_value, reference_value, soft_optimal_value
from alignsim.methods.base import TrainingResult

#: What each measure is, in the order of the columns of `results.csv`.
MEASURES = {
    "normalized_value": "value as a share of the way from reference_value, which is 0, to optimal_value, which is 1",
    "value": "E[r*] - beta KL(policy || reference) on held-out prompts",
    "value_standard_error": "of value, from sampling responses; 0 where responses are enumerated",
    "optimal_value": "the largest value that any policy has on these prompts",
    "reference_value": "value of the reference policy, its E[r*]; 0 where it is uniform",
    "regret": "optimal_value - value",
    "statistical_regret": "optimal_value - value of the soft-optimal policy of the learned reward",
    "statistical_regret_standard_error": "of statistical_regret, from sampling; 0 where responses are enumerated",
    "computational_regret": "regret - statistical_regret: what the method's policy loses against the soft-optimal one",
    "reward": "E[r*] under the policy",
    "kl": "KL(policy || reference), in nats; of best-of-n with sampled responses a bound from above",
    "pair_accuracy": "share of fresh pairs that the learned (or implicit) reward orders as labeled",
    "validation_loss": "smallest loss on the validation pairs, mean over pairs, in the units of the method's loss",
    "best_step": "the step of that smallest loss, whose weights are the result",
}

#: Columns of `results.csv` beside the measures that say whether they can be relied on.
DIVERGED = {
    "diverged": "True where training met a loss or weights that were not finite",
    "diverged_stage": "the first stage in which it did",
    "diverged_step": "after how many steps of that stage",
}


def measure(trained: TrainingResult, env: Environment, beta: float, evaluation: Evaluation) -> dict[str, torch.Tensor]:
    """Measure what a method trained: a tensor (S,) for each of `MEASURES`, NaN where one does not apply."""
    prompts = env.prompts("evaluation", evaluation.prompts)
    value = policy_value(trained.policy, beta, prompts, evaluation)
    unknown = torch.full_like(value.value, float("nan"))
    optimum = env.optimal_value(beta, prompts)
    optimum = unknown if optimum is None else optimum
    reference = reference_value(env, prompts, evaluation)
    regret, statistical, statistical_error = optimum - value.value, unknown, unknown
    if trained.reward_model is not None:
        soft_optimal = soft_optimal_value(trained.reward_model, beta, prompts, evaluation)
        statistical, statistical_error = optimum - soft_optimal.value, soft_optimal.standard_error
    measures = {
        "normalized_value": normalized_value(value.value, reference, optimum),
        "value": value.value,
        "value_standard_error": value.standard_error,
        "optimal_value": optimum,
        "reference_value": reference,
        "regret": regret,
        "statistical_regret": statistical,
        "statistical_regret_standard_error": statistical_error,
        "computational_regret": regret - statistical,
        "reward": value.reward,
        "kl": value.kl,
        "pair_accuracy": pair_accuracy(trained, env, evaluation.pairs),
        "validation_loss": trained.fit.validation_loss if trained.fit else unknown,
        "best_step": trained.fit.best_step if trained.fit else unknown,
    }
    return {name: measures[name] for name in MEASURES}


def pair_accuracy(trained: TrainingResult, env: Environment, n_pairs: int) -> torch.Tensor:
    """Share of fresh labeled pairs whose chosen response scores higher, (S,); a tie counts one half."""
    pairs = env.sample_preferences("evaluation.pairs", n_pairs)
    with torch.no_grad():
        chosen, rejected = trained.scorer(pairs.prompts, pairs.responses).unbind(-1)
    return ((chosen > rejected).float() + (chosen == rejected).float() / 2).mean(1)
