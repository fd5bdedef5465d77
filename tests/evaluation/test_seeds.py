import pytest
import torch

from alignsim import PolicyModel, RewardModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.evaluation.measures import measure
from alignsim.methods.base import TrainingResult
from alignsim.models.base import FitSummary


def shaken(model, seeds):
    """A model whose weights depend on the seed alone, as training makes them."""
    for name, p in model.parameters.items():
        noise = [torch.randn(p.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        model.parameters[name] = p + 0.3 * torch.stack(noise)
    model.parameters = model.network.masked(model.parameters)
    return model


def measured(seeds, limit):
    env = SimplifiedEnvironment(3, 5, 2.0, seeds=seeds)
    policy, reward_model = shaken(PolicyModel(env), seeds), shaken(RewardModel(env), seeds)
    fit = FitSummary(torch.zeros(len(seeds)), torch.zeros(len(seeds)))
    how = Evaluation(prompts=30, samples=20, pairs=100, enumeration_limit=limit)
    return measure(TrainingResult(policy, fit, reward_model, reward_model), env, 0.5, how)


@pytest.mark.parametrize("limit", [1, 4096])
def test_measures_of_a_seed_do_not_depend_on_others(limit):
    """Every measure of a seed alone equals that seed among others."""
    alone, among = measured((7,), limit), measured(tuple(range(16)), limit)
    for name, values in alone.items():
        assert torch.allclose(values[0], among[name][7], atol=1e-4), name


def test_the_error_of_importance_sampling_is_its_spread():
    """Also for a reward model far from its proposal, where the estimate of log Z matters."""
    from alignsim.evaluation.value import soft_optimal_value

    env = SimplifiedEnvironment(3, 5, 2.0, seeds=(0, 1))
    reward_model = shaken(RewardModel(env), (0, 1))
    how = Evaluation(samples=400, enumeration_limit=1)
    prompts, values, errors = env.prompts("test", 8), [], []
    for seed in range(100):
        env.streams.seeds = (1000 + seed, 2000 + seed)  # other noise for the same world
        value = soft_optimal_value(reward_model, 0.5, prompts, how)
        values.append(value.value)
        errors.append(value.standard_error)
    ratio = torch.stack(values).std(0) / torch.stack(errors).mean(0)
    assert ((ratio > 0.7) & (ratio < 1.4)).all()
    exact = soft_optimal_value(reward_model, 0.5, prompts, Evaluation()).value
    bias = (torch.stack(values).mean(0) - exact).abs()
    assert (bias < 0.5 * torch.stack(values).std(0)).all()
