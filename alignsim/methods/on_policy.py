"""The one training loop of methods that learn from responses generated during training: RL, RAFT, online DPO.

A method defines the batches and the loss as an `OnPolicyLearner`. Rewards are only evaluated; no gradient goes through
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import field

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.schema import STRICT
from alignsim.methods.base import Monitor, State
from alignsim.methods.optimizer import OptimizerConfig, StackedAdamW
from alignsim.models.base import StackedModel
from alignsim.models.network import Parameters
from alignsim.models.policy import PolicyModel

#: Reward of responses: (S, B, D), (S, B, K, T) -> (S, B, K).
Reward = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]

#: Steps in a block. Random numbers are drawn for a block at once, and a stage reports and resumes after each block.
STEPS_IN_BLOCK = 50


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OnPolicyConfig(OptimizerConfig):
    """How a policy learns from responses that are generated while it trains.

    Attributes:
        steps: training steps, each on fresh prompts.
        prompts_per_step: fresh prompts in a step.
    """

    steps: PositiveInt = 2000
    learning_rate: PositiveFloat = 3e-3
    prompts_per_step: PositiveInt = 32


@plain_dataclass
class Batch:
    """The data of one training step.

    Attributes:
        policy: the current policy; in the first epoch it is the one that generated the responses.
        prompts: (S, B, D).
        responses: (S, B, K, T); empty, K = 0, where none are generated.
        rewards: rewards of the responses, (S, B, K), or their expectation for each prompt, (S, B, 1).
        log_ratio: log pi - log ref of the responses, (S, B, K), or its expectation, (S, B, 1). Its gradient can be
            taken once, in the first epoch.
        critic: the model that is trained together with the policy, or None.
        epoch: the number of gradient steps on this batch so far.
        token_log_ratio: log pi/ref of each token when it was generated, (S, B, K, T), without gradient. Set by losses
            that compare later epochs with the first one, as are `advantages` and `returns`.
        advantages: advantages of each token, (S, B, K, T), or of each response, (S, B, K, 1).
        returns: the targets of the critic, (S, B, K, T).
    """

    policy: PolicyModel
    prompts: torch.Tensor
    responses: torch.Tensor
    rewards: torch.Tensor
    log_ratio: torch.Tensor
    critic: StackedModel | None = None
    epoch: int = 0
    token_log_ratio: torch.Tensor = field(init=False)
    advantages: torch.Tensor = field(init=False)
    returns: torch.Tensor = field(init=False)


class OnPolicyLearner(ABC):
    """The batches, the parameters and the loss of a stage. Each kind of method has a subclass.

    Attributes:
        parameters: all that is trained, by name.
        buffers: tensors that change in place and are not trained; they are part of a checkpoint.
        epochs: gradient steps on each batch.
    """

    parameters: Parameters
    buffers: Parameters
    epochs: int = 1

    @abstractmethod
    def draw(self, n_steps: int, block: int) -> None:
        """Draw the random numbers of the next `n_steps` steps, which are the given block of the streams."""

    @abstractmethod
    def batch(self, index: int) -> Batch:
        """The batch of a step of the block that was drawn last, from 0."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of each seed in the current epoch of a batch, (S,), differentiable by `parameters`."""

    def end_step(self, step: int) -> None:  # noqa: B027 (most learners have nothing to do)
        """Called after each step with the number of steps so far; does nothing by default."""


class SampledLearner(OnPolicyLearner):
    """A learner whose batches are fresh prompts and responses that a policy generates to them.

    Args:
        policy: trained in place.
        reward: the reward of responses; only evaluated, never differentiated.
        prompts_per_step: B, fresh prompts in a step.
        samples_per_prompt: K, responses to each.
        generator: the policy that generates the responses, by default the one that is trained.
    """

    def __init__(
        self,
        policy: PolicyModel,
        reward: Reward,
        prompts_per_step: int,
        samples_per_prompt: int,
        generator: PolicyModel | None = None,
    ) -> None:
        self.policy, self.parameters, self.buffers = policy, dict(policy.parameters), {}
        self._reward, self._sampler = reward, (generator or policy).sampler()
        self._prompts_per_step, self._samples_per_prompt = prompts_per_step, samples_per_prompt

    def draw(self, n_steps: int, block: int) -> None:
        """Draw prompts, (S, steps * B, D), and the numbers that determine each token, (S, steps, T, K, B)."""
        env, size = self.policy.env, self._prompts_per_step
        # The streams are named after RL, but every method that learns from its own responses uses them
        self._prompts = env.prompts("rl", n_steps * size, block=block).split(size, dim=1)
        # Uniform numbers in the order in which the network uses them
        shape = (n_steps, env.output_dim, self._samples_per_prompt, size)
        self._uniforms = env.streams.uniform("rl.samples", shape, block=block)

    def batch(self, index: int) -> Batch:
        """Fresh prompts, responses to them, and the rewards of these."""
        prompts = self._prompts[index]
        responses, log_ratio = self._sampler(prompts, self._uniforms[:, index].permute(0, 3, 2, 1))
        with torch.no_grad():
            rewards = self._reward(prompts, responses)
        return Batch(self.policy, prompts, responses, rewards, log_ratio)


def train_on_policy(
    learner: OnPolicyLearner, policy: PolicyModel, config: OptimizerConfig, beta: float, *, stage: str, monitor: Monitor
) -> None:
    """Train a policy on batches of its own responses; the last weights are kept.

    Args:
        learner: defines the batches, the parameters and the loss.
        policy: the policy that the learner trains, in place.
        config: number of steps, learning rate and weight decay.
        beta: weight of the KL term in the objective that is reported, above 0.
        stage: the name of the stage for the monitor.
        monitor: gets the mean reward, KL and objective of the samples since the last report.
    """
    optimizer = StackedAdamW(learner.parameters, config)
    done = _resume(learner, optimizer, monitor.load_state(stage))
    monitor.start(stage, config.steps, done)
    if done == 0:
        monitor.record(stage, 0, {}, policy)
    for start in range(done, config.steps, STEPS_IN_BLOCK):
        end = min(start + STEPS_IN_BLOCK, config.steps)
        learner.draw(end - start, start // STEPS_IN_BLOCK)
        losses, rewards, log_ratios = [], [], []
        for step in range(start, end):
            # Prompts, responses and their rewards
            batch = learner.batch(step - start)
            # Gradient steps on the same responses
            step_losses = []
            for batch.epoch in range(learner.epochs):
                loss = learner.loss(batch)
                optimizer.step(step, loss)
                step_losses.append(loss.detach())
            learner.end_step(step + 1)
            losses.append(sum(step_losses[1:], step_losses[0]))  # not finite as soon as one of them is not
            rewards.append(batch.rewards)
            log_ratios.append(batch.log_ratio.detach())
        # Report and checkpoint
        optimizer.note_divergence(end, torch.stack(losses))
        mean_reward, kl = (torch.stack(each).mean((0, 2, 3)) for each in (rewards, log_ratios))
        measures = {"learned_reward": mean_reward, "kl": kl, "objective": mean_reward - beta * kl}
        monitor.record(stage, end, measures, policy)
        monitor.save_state(stage, {"step": end, "optimizer": optimizer.state(), "buffers": learner.buffers})
    optimizer.close()
    monitor.finish(stage, config.steps, optimizer.diverged_at)


def _resume(learner: OnPolicyLearner, optimizer: StackedAdamW, saved: State | None) -> int:
    """Restore a saved state and return the number of its steps; 0 where there is none."""
    if saved is None:
        return 0
    optimizer.restore(saved["optimizer"])
    for name, tensor in learner.buffers.items():
        tensor.copy_(saved["buffers"][name])
    return int(saved["step"])
