"""What is timed of alignsim: the steps of its stages, through the real loops, and the evaluation of a policy.

A stage is called as a user calls it and timed between two reports to its monitor. So drawing the pairs, the first check
of the validation pairs and the first steps do not count; shuffling, random numbers, the optimizer, the check of the
validation pairs every 25 steps and keeping the best weights do. Early stopping is put off, so that the number of steps
is known. Seeds are trained as the command line trains them, in stacks that are shared out to processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from alignsim.config.schema import Evaluation
from alignsim.envs.base import Environment
from alignsim.evaluation.value import is_enumerable, policy_value
from alignsim.methods.dpo import train_policy_with_dpo
from alignsim.methods.on_policy import STEPS_IN_BLOCK
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import train_policy_with_rlhf
from alignsim.methods.two_stage import train_reward_model
from alignsim.models.config import ModelConfig
from alignsim.models.reward import RewardModel
from scripts.benchmarking.sizes import (
    Sizes,
    exact_evaluation,
    forward,
    policy_gradient_step,
    sampled_evaluation,
    supervised_step,
)
from scripts.benchmarking.timing import Stopwatch, now

#: Looks without improvement that never happen.
ENDLESS = 10**9

BETA = 0.5

#: Takes so many steps, returns the seconds for each.
Stretch = Callable[[int], float]


@dataclass(frozen=True)
class Work:
    """Something that is timed.

    Attributes:
        unit: what a step of it is called.
        block: steps are timed in multiples of this.
        operations: of a step of one seed.
        prepare: for an environment and its models, how to take steps.
    """

    unit: str
    block: int
    operations: Callable[[Sizes], int]
    prepare: Callable[[Environment, ModelConfig], Stretch]

    def first_step(self, sizes: Sizes, seeds: range, device: str) -> float:
        """Seconds from the call to the end of the first step of a stack, its data and set-up included."""
        env = sizes.env(seeds, device)
        began = now(device)
        self.prepare(env, sizes.model)(1)
        return now(device) - began

    def seconds_per_step(
        self,
        sizes: Sizes,
        stacks: Sequence[range],
        device: str,
        repetitions: int,
        steps: int,
        before: Callable[[], object] = lambda: None,
        between: Callable[[int], object] = lambda repetition: None,
    ) -> list[float]:
        """For each repetition the seconds in which all stacks of seeds, one after the other, take a step.

        Before every stretch of steps `before` is called, after it `between` with the number of the repetition.
        """
        totals = [0.0] * repetitions
        for seeds in stacks:
            stretch = self.prepare(sizes.env(seeds, device), sizes.model)
            for i in range(repetitions):
                before()
                totals[i] += stretch(steps)
                between(i)
        return totals

    def steps_for(self, sizes: Sizes, stacks: Sequence[range], device: str, seconds: float) -> int:
        """How many steps all stacks, one after the other, take in about so many seconds, in whole blocks."""
        (each,) = self.seconds_per_step(sizes, stacks[:1], device, 1, self.block)
        return self.block * max(round(seconds / len(stacks) / each / self.block), 1)


def supervised_settings(steps: int) -> PreferenceFitConfig:
    """The default settings for so many steps after a first block, or for a single step, with no early stopping."""
    return PreferenceFitConfig(steps=steps + PreferenceFitConfig().validate_every if steps > 1 else 1, patience=ENDLESS)


def rl_settings(steps: int) -> RLOO:
    """The default settings for so many steps after a first block, or for a single step."""
    return RLOO(steps=steps + STEPS_IN_BLOCK if steps > 1 else 1)


def timed(device: str, steps: int, train: Callable[[Stopwatch], object]) -> float:
    """Seconds per step of a stage that reports to a stopwatch; of a single step, 0: it is all set-up."""
    watch = Stopwatch(device)
    train(watch)
    return watch.seconds_per_step() if steps > 1 else 0.0


def _supervised(train: Callable[..., object]) -> Callable[[Environment, ModelConfig], Stretch]:
    """Steps of a function that fits a model to pairs."""

    def prepare(env: Environment, model: ModelConfig) -> Stretch:
        fit = partial(train, env, env.preference_data(), beta=BETA, model=model)
        return lambda steps: timed(
            env.device, steps, lambda watch: fit(settings=supervised_settings(steps), monitor=watch)
        )

    return prepare


def _rl(env: Environment, model: ModelConfig) -> Stretch:
    reward = RewardModel(env, model.policy, beta=BETA)
    improve = partial(train_policy_with_rlhf, env, reward, beta=BETA, model=model)
    return lambda steps: timed(env.device, steps, lambda watch: improve(settings=rl_settings(steps), monitor=watch))


def _evaluation(env: Environment, model: ModelConfig) -> Stretch:
    policy, evaluation = model.new_policy(env), Evaluation()
    prompts = env.prompts("evaluation", evaluation.prompts)

    def stretch(steps: int) -> float:
        began = now(env.device)
        for _ in range(steps):
            policy_value(policy, BETA, prompts, evaluation)
        return (now(env.device) - began) / steps

    return stretch


def _evaluation_operations(sizes: Sizes) -> int:
    evaluation = Evaluation()
    if is_enumerable(sizes.env([0], "cpu"), evaluation):
        return exact_evaluation(sizes, evaluation.prompts)
    return sampled_evaluation(sizes, evaluation.prompts, evaluation.samples)


def _supervised_operations(sizes: Sizes) -> int:
    """Of a step, and of its share of a check of the validation pairs: one forward pass every 25 steps."""
    env, settings = sizes.env([0], "cpu"), PreferenceFitConfig()
    validation_pairs = round(env.n_pairs * env.validation_fraction)
    check = forward(sizes, validation_pairs, 2 * validation_pairs)
    return supervised_step(sizes, settings.batch_size) + check // settings.validate_every


def _rl_operations(sizes: Sizes) -> int:
    return policy_gradient_step(sizes, RLOO().prompts_per_step, RLOO().samples_per_prompt)


WORKS = {
    "dpo": Work(
        "step", PreferenceFitConfig().validate_every, _supervised_operations, _supervised(train_policy_with_dpo)
    ),
    "reward_model": Work(
        "step", PreferenceFitConfig().validate_every, _supervised_operations, _supervised(train_reward_model)
    ),
    "rl": Work("step", STEPS_IN_BLOCK, _rl_operations, _rl),
    "evaluation": Work("evaluation", 1, _evaluation_operations, _evaluation),
}
