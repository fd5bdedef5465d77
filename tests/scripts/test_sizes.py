"""The arithmetic of a step, counted by torch on the plain network."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from alignsim import PolicyModel, RewardModel, train_policy_with_rlhf
from alignsim.methods.rl.rloo import RLOO
from alignsim.runs.hardware import SEEDS_ON_CPU
from scripts.benchmarking import sizes as arithmetic
from scripts.benchmarking.plain import PlainMADE
from scripts.benchmarking.sizes import Sizes, shares

SIZES = [Sizes(), Sizes(input_dim=3, output_dim=5, vocab_size=3, hidden_dim=16, n_layers=3), Sizes(n_layers=1)]


def counted(sizes, rows):
    """Operations that torch counts in a forward pass over so many prompts, a response to each, and in its gradient."""
    env = sizes.env([0], "cpu")
    network = PlainMADE(env, sizes.model.policy, torch.Generator())
    prompts, tokens = torch.zeros(rows, sizes.input_dim), torch.zeros(rows, sizes.output_dim, dtype=torch.long)
    with FlopCounterMode(display=False) as pass_forward:
        loss = network(prompts, tokens).sum()
    with FlopCounterMode(display=False) as pass_back:
        loss.backward()
    return pass_forward.get_total_flops(), pass_back.get_total_flops()


@pytest.mark.parametrize("sizes", SIZES)
def test_a_pass_takes_what_torch_counts(sizes):
    """With its gradient, where nothing is shared."""
    forward, gradient = counted(sizes, 12)
    assert arithmetic.forward(sizes, 12, 12) == forward
    assert arithmetic.gradient(sizes, 12, 12) == gradient


@pytest.mark.parametrize("sizes", SIZES)
def test_responses_to_one_prompt_share_its_part(sizes):
    """The part of the first layer that reads the prompt."""
    alone = arithmetic.forward(sizes, 12, 12)
    shared = arithmetic.forward(sizes, 4, 12)
    assert alone - shared == 2 * 8 * sizes.input_dim * sizes.hidden_dim


def test_the_steps_are_what_the_formulas_say():
    # D = 8, T = 8, V = 2, H = 64, L = 2
    assert arithmetic.supervised_step(Sizes(), 128) == 2 * (
        2 * 128 * 8 * 64 + 2 * 256 * 16 * 64 + 3 * 256 * 64 * 64 + 3 * 256 * 64 * 16
    )
    pass_forward = 32 * 8 * 64 + 128 * 16 * 64 + 128 * 64 * 64 + 128 * 64 * 16
    gradient = 32 * 8 * 64 + 128 * 16 * 64 + 2 * 128 * 64 * 64 + 2 * 128 * 64 * 16
    assert arithmetic.policy_gradient_step(Sizes(), 32, 4) == 2 * (2 * pass_forward + gradient)


@pytest.mark.parametrize("sizes", SIZES)
def test_exact_values_take_what_torch_counts(sizes):
    env = sizes.env([0], "cpu")
    policy = PolicyModel(env, sizes.model.policy)
    with FlopCounterMode(display=False) as counter:
        policy.log_ratio_of_all(env.prompts("test", 10))
    assert arithmetic.exact_evaluation(sizes, 10) == counter.get_total_flops()


@pytest.mark.parametrize("sizes", SIZES)
def test_an_rl_step_takes_what_torch_counts(sizes):
    """Sampling leaves masked entries out, and each pass computes a prompt's half for every response: both are small."""
    env = sizes.env([0], "cpu")
    settings = RLOO(steps=1)
    with FlopCounterMode(display=False) as counter:
        train_policy_with_rlhf(env, RewardModel(env, sizes.model.policy), model=sizes.model, settings=settings)
    assert counter.get_total_flops() == pytest.approx(arithmetic.policy_gradient_step(sizes, 32, 4), rel=0.2)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seeds", [1, SEEDS_ON_CPU, 7 * SEEDS_ON_CPU + 1])
def test_stacks_hold_every_seed_once(seeds, threads):
    """And no more seeds than the command line puts into one."""
    processes = shares(seeds, "cpu", threads)
    assert len(processes) == min(threads, seeds)
    stacks = [stack for process in processes for stack in process]
    assert sorted(seed for stack in stacks for seed in stack) == list(range(seeds))
    assert max(map(len, stacks)) <= SEEDS_ON_CPU
    counts = [sum(map(len, process)) for process in processes]
    assert max(counts) - min(counts) <= SEEDS_ON_CPU
