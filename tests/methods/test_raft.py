import torch

from alignsim import PolicyModel, SimplifiedEnvironment
from alignsim.config.schema import Evaluation
from alignsim.evaluation.value import policy_value
from alignsim.experiment import Condition, run_condition
from alignsim.methods.base import Monitor
from alignsim.methods.on_policy import OnPolicyFit, train_on_policy
from alignsim.methods.raft import RAFT, raft_loss
from alignsim.methods.supervised import Supervised


def test_the_best_response_alone_is_imitated():
    rewards = torch.tensor([[[0.0, 2.0, 1.0], [3.0, -1.0, 3.0]]])
    log_ratio = torch.tensor([[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]], requires_grad=True)
    loss = raft_loss(rewards, log_ratio)
    assert torch.equal(loss.detach(), -torch.tensor([[0.2, 0.4]]))
    (gradient,) = torch.autograd.grad(loss.sum(), log_ratio)
    assert torch.equal(gradient, torch.tensor([[[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]]))


def reached(steps, samples):
    env = SimplifiedEnvironment(3, 4, 1.5, seeds=(0, 1))
    policy, settings = PolicyModel(env), OnPolicyFit(steps=steps, learning_rate=1e-2)
    train_on_policy(
        *(policy, env.reward, lambda rewards, log_ratio, _: raft_loss(rewards, log_ratio), 0.5, settings),
        samples=samples,
        phase="raft",
        monitor=Monitor(),
    )
    return policy_value(policy, 0.5, env.prompts("test", 50), Evaluation())


def test_without_a_kl_term_longer_training_and_more_samples_move_it_further():
    short, long, picky = reached(100, 2), reached(600, 2), reached(100, 8)
    assert (long.kl > short.kl).all()
    assert (picky.kl > short.kl).all()
    assert (picky.reward > short.reward).all()
    assert (short.reward > 0).all()


def test_a_condition_with_it_is_measured():
    method = RAFT(Supervised(steps=60), OnPolicyFit(steps=60, prompts=8), samples=3)
    results = run_condition(Condition(method, SimplifiedEnvironment(3, 4, n_pairs=200, seeds=(0, 1)))).results
    assert results.drop(columns=["diverged_phase", "diverged_step"]).notna().all(axis=None)
