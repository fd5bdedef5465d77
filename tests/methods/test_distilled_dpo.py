"""DPO on the given pairs, labeled anew by a reward model."""

import torch

from alignsim import RewardModel, SimplifiedEnvironment, train_policy_with_dpo
from alignsim.envs.labels import BradleyTerry
from alignsim.envs.rng import Streams
from alignsim.methods.base import Monitor, TrainingInputs
from alignsim.methods.distilled_dpo import DistilledDPO, with_rewards
from alignsim.methods.dpo import DPO
from alignsim.methods.losses import labeled_dpo_loss
from alignsim.methods.preference_fit import Minibatches, PreferenceFitConfig
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.models.config import ModelConfig
from alignsim.runs.condition import Condition, run_condition

SHORT = PreferenceFitConfig(steps=60)


def environment(seeds=(0, 1), **changes):
    return SimplifiedEnvironment(3, 4, 2.0, **({"n_pairs": 200, "seeds": seeds} | changes))


def test_the_implied_policy_is_stationary_for_every_pair():
    """Its own implicit reward labels the pairs: not only the mean gradient is zero, that of each pair is."""
    log_ratio = torch.randn(2, 160, 2, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    loss = labeled_dpo_loss(0.7 * log_ratio.detach(), log_ratio, beta=0.7).sum()
    assert torch.autograd.grad(loss, log_ratio)[0].abs().max() < 1e-6
    moved = labeled_dpo_loss(0.7 * log_ratio.detach() + torch.tensor([0.5, 0.0]), log_ratio, beta=0.7).sum()
    assert torch.autograd.grad(moved, log_ratio)[0].abs().mean() > 0.01


def test_the_policy_follows_the_reward_model_of_rlhf():
    """Three labels in ten are flipped, so that the reward model of one seed and the labels of its pairs differ."""
    env, fit = environment(n_pairs=1000, labels=BradleyTerry(0.3)), PreferenceFitConfig(steps=400, learning_rate=3e-3)
    distilled, dpo = (run_condition(Condition(method, env)) for method in (DistilledDPO(SHORT, fit), DPO(fit)))
    rlhf = run_condition(Condition(RLHF(SHORT, RLOO(steps=2)), env))
    for name, p in distilled.trained.reward_model.parameters.items():
        assert torch.equal(p, rlhf.trained.reward_model.parameters[name]), name
    pairs = env.preference_data().train
    learned, *implicit = (
        score(pairs.prompts, pairs.responses).diff(dim=-1) > 0
        for score in (distilled.trained.reward_model, distilled.trained.policy.log_ratio, dpo.trained.policy.log_ratio)
    )
    of_distilled, of_dpo = (float((learned == ordered).float().mean()) for ordered in implicit)
    assert of_distilled > 0.9
    assert of_dpo < 0.75


def test_a_seed_that_leaves_keeps_its_reward_model():
    quick = PreferenceFitConfig(steps=300, learning_rate=1e-2, validate_every=10, patience=3, batch_size=40)
    method = DistilledDPO(PreferenceFitConfig(steps=100), quick)
    among = run_condition(Condition(method, environment(seeds=(0, 1, 2, 3))))
    last = among.history[among.history.stage == "distillation"].groupby("seed").step.max()
    assert last.nunique() > 1, "seeds leave the stack one by one"
    for seed in range(4):
        alone = run_condition(Condition(method, environment(seeds=(seed,))))
        for name, p in alone.trained.policy.parameters.items():
            assert torch.allclose(p[0], among.trained.policy.parameters[name][seed], atol=2e-4), (seed, name)


def test_rewards_go_with_their_pairs():
    """Sliced, shuffled and without some of the seeds, pairs keep the rewards that the reward model gives them."""
    env = environment(seeds=(0, 1, 2), n_pairs=300)
    pairs = with_rewards(env.preference_data().train, env.reward)
    batch = Minibatches(pairs.select_seeds(torch.tensor([0, 2])), Streams((0, 2)), 40).batch(7)
    assert torch.equal(batch.rewards, env.select_seeds([0, 2]).reward(batch.prompts, batch.responses))
    assert len(torch.unique(batch.rewards)) > 40


def test_an_implicit_reward_gives_its_policy_back():
    """So two stages win nothing by themselves: labeled by the implicit reward of DPO's policy it is DPO's policy."""
    env = environment(n_pairs=4000)
    dpo = train_policy_with_dpo(env, settings=PreferenceFitConfig(steps=300, learning_rate=3e-3))
    reward_model = RewardModel(env, beta=0.5, reads="tokens", head="implicit")
    reward_model.parameters = dpo.parameters
    task = TrainingInputs(env, env.preference_data(), ModelConfig(), 0.5, Monitor())
    distilled = DistilledDPO(policy_fit=PreferenceFitConfig(steps=2000, learning_rate=5e-3)).policy_for(
        reward_model, task
    )
    prompts = env.prompts("test", 200)
    wanted, got = (policy.log_ratio_of_all(prompts) for policy in (dpo, distilled))
    assert (got - wanted).square().mean() < 0.02 * wanted.square().mean()


def test_a_reward_of_the_prompt_changes_nothing():
    """A function of the prompt added to the reward changes nothing."""
    env = environment()

    class Shifted(RewardModel):
        """Its rewards are in sixteenths, so that no sum is rounded."""

        offset = 0.0

        def __call__(self, prompts, responses):
            rewards = (16 * super().__call__(prompts, responses)).round() / 16
            return rewards + self.offset * prompts.sum(-1, keepdim=True).round()

    reward_model, policies, generator = Shifted(env), [], torch.Generator().manual_seed(0)
    for p in reward_model.parameters.values():
        p += 0.5 * torch.randn(p.shape, generator=generator)
    for reward_model.offset in (0.0, 8.0):
        task = TrainingInputs(env, env.preference_data(), ModelConfig(), 0.5, Monitor())
        policies.append(DistilledDPO(policy_fit=SHORT).policy_for(reward_model, task))
    for name, p in policies[0].parameters.items():
        assert torch.equal(p, policies[1].parameters[name]), name
    assert policies[0].log_ratio_of_all(env.prompts("test", 5)).abs().max() > 0.01
