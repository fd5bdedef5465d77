"""What holds for every direct method that `conf/method/` names: a new one is tested by being there."""

import dataclasses
import subprocess
import sys

import pytest
import torch
import yaml

from alignsim import PolicyModel, SimplifiedEnvironment
from alignsim.config.checking import import_class
from alignsim.config.defaults import conf_dir
from alignsim.envs.labels import BradleyTerry
from alignsim.envs.pairs import Preferences
from alignsim.envs.references import Tilted
from alignsim.methods.base import Monitor, TrainingInputs
from alignsim.methods.cdpo import CDPO
from alignsim.methods.direct import DirectMethod
from alignsim.methods.dpo import DPO
from alignsim.methods.ipo import IPO
from alignsim.methods.kto import KTO
from alignsim.methods.losses import kto_loss, reference_point
from alignsim.methods.orpo import ORPO
from alignsim.methods.preference_fit import ActiveSeeds, PreferenceFitConfig
from alignsim.methods.robust_dpo import RobustDPO
from alignsim.methods.sft import SFT
from alignsim.methods.simpo import SimPO
from alignsim.methods.slic import SLiC
from alignsim.models.config import ModelConfig
from alignsim.runs.condition import Condition, run_condition
from tests.methods.test_devices import steps_and_check

TARGETS = {
    path.stem: yaml.safe_load(path.read_text()).get("_target_")
    for path in sorted((conf_dir() / "method").glob("*.yaml"))
}
CLASSES = {name: import_class(target) for name, target in TARGETS.items() if target}
DIRECT = {name: method for name, method in CLASSES.items() if issubclass(method, DirectMethod)}
every_method = pytest.mark.parametrize("name", DIRECT)


def environment(complexity_factor=1.0, **changes):
    settings = {"input_dim": 3, "output_dim": 4, "seeds": (0, 1), "n_pairs": 600} | changes
    return SimplifiedEnvironment(complexity_factor=complexity_factor, **settings)


def moved(env, scale=0.5):
    """A policy away from the reference."""
    policy, generator = PolicyModel(env), torch.Generator().manual_seed(0)
    noise = {name: scale * torch.randn(p.shape[1:], generator=generator) for name, p in policy.parameters.items()}
    policy.parameters = policy.network.masked({name: p + noise[name] for name, p in policy.parameters.items()})
    return policy


class Summed(DPO):
    """A method of the user's own, with a loss that was summed up."""

    def loss(self, policy, pairs, beta):
        return super().loss(policy, pairs, beta).sum()


def test_a_loss_that_is_not_one_for_each_pair_is_told_by_name():
    with pytest.raises(ValueError, match=r"Summed.loss gave a tensor of shape \(\); .* \(S, B\) = \(2, 120\)"):
        run_condition(Condition(Summed(), environment()))


@every_method
def test_every_direct_method_learns_in_the_real_loop(name):
    env, method = environment(n_pairs=2000), DIRECT[name](policy_fit=PreferenceFitConfig(steps=200, learning_rate=3e-3))
    outcome = run_condition(Condition(method, env))
    losses = outcome.history.dropna(subset="validation_loss").set_index(["seed", "step"]).validation_loss
    assert set(outcome.history.stage) == {method.stage}
    assert (outcome.results.validation_loss < losses.xs(0, level="step").values).all()
    assert (outcome.results.reward > 0.3).all(), "the reference policy has 0"
    assert (outcome.results.pair_accuracy > 0.65).all()
    assert (outcome.results.kl > 0).all()
    assert not outcome.results.diverged.any()


@every_method
def test_a_seed_alone_equals_that_seed_among_others(name):
    method = DIRECT[name](policy_fit=PreferenceFitConfig(steps=30, validate_every=10, learning_rate=3e-3))
    among, alone = (run_condition(Condition(method, environment(seeds=seeds))).results for seeds in ((0, 1, 2), (2,)))
    assert alone.value.item() == pytest.approx(among.value[2], abs=1e-4)


@every_method
def test_the_validation_loss_is_over_all_parts(name):
    """The validation loss is over all parts of the validation pairs."""
    env = environment(n_pairs=1500, validation_fraction=0.2)  # 300 validation pairs: two parts of 128 and one of 44
    method, data = DIRECT[name](policy_fit=PreferenceFitConfig(steps=20)), env.preference_data()
    trained = method.train(TrainingInputs(env, data, ModelConfig(), 0.5, Monitor()))
    with torch.no_grad():
        beta = method.beta_of_loss(0.5)
        parts = [method.loss(trained.policy, part, beta) for part in data.validation.split(128)]
    assert [part.shape for part in parts] == [(2, 128), (2, 128), (2, 44)]
    assert torch.allclose(torch.cat(parts, 1).mean(1), trained.fit.validation_loss, rtol=1e-5)


@every_method
def test_the_loss_of_a_seed_does_not_depend_on_the_others(name):
    env, method = environment(seeds=(3, 4, 5)), DIRECT[name]()
    policy, data, places = moved(env), env.preference_data(), torch.tensor([1])
    together = method.loss(policy, data.train[:50], 0.5)
    alone = method.loss(policy.select_seeds(places), data.select_seeds(places).train[:50], 0.5)
    assert torch.allclose(alone[0], together[1], atol=1e-6)


def softplus(x):
    return torch.nn.functional.softplus(x)


def log_odds(p):
    return (p / (1 - p)).log()


#: Methods with none of their knobs at its default, and their losses at beta 0.5 by the difference h of the log-ratios
#: and the log-probabilities c and r of chosen and rejected responses of 4 tokens. A temperature of 0.6 is then 0.3.
BY_HAND = [
    (DPO(), lambda h, c, r: softplus(-0.5 * h)),
    (DPO(beta=0.3), lambda h, c, r: softplus(-0.3 * h)),
    (IPO(temperature=0.6), lambda h, c, r: (h - 1 / 0.6) ** 2),
    (SLiC(temperature=0.6), lambda h, c, r: (1 - 0.3 * h).relu()),
    (CDPO(beta=0.3, label_noise=0.2), lambda h, c, r: 0.8 * softplus(-0.3 * h) + 0.2 * softplus(0.3 * h)),
    (RobustDPO(beta=0.3, label_noise=0.2), lambda h, c, r: (0.8 * softplus(-0.3 * h) - 0.2 * softplus(0.3 * h)) / 0.6),
    (SimPO(logit_scale=3.0, gamma=0.7), lambda h, c, r: softplus(0.7 - 3 * (c - r) / 4)),
    (ORPO(weight=2.0), lambda h, c, r: -c / 4 + 2 * softplus(log_odds((r / 4).exp()) - log_odds((c / 4).exp()))),
    (SFT(), lambda h, c, r: -c),
]


@pytest.mark.parametrize(("method", "by_hand"), BY_HAND, ids=lambda x: type(x).__name__)
def test_the_loss_of_a_method_is_its_formula(method, by_hand):
    """The reference is tilted, so that log-ratios and log-probabilities are not the same up to a constant."""
    policy = moved(environment(reference=Tilted(0.4)))
    pairs = policy.env.preference_data().train[:50]
    chosen, rejected = policy.log_ratio(pairs.prompts, pairs.responses).unbind(-1)
    log_probs = policy.log_prob(pairs.prompts, pairs.responses).unbind(-1)
    found = method.loss(policy, pairs, method.beta_of_loss(0.5))
    assert torch.allclose(found, by_hand(chosen - rejected, *log_probs), atol=1e-5)


@every_method
def test_steps_wait_for_nothing(name):
    """On a device that has no numbers looking at one is an error."""
    env, method = environment(device="meta"), DIRECT[name]()

    def loss(policy, pairs):
        return method.loss(policy, pairs, 0.5)

    stack = ActiveSeeds(PolicyModel(env), loss, env.preference_data(), PreferenceFitConfig())
    steps_and_check(stack, loss, n_steps=3)
    assert stack.step == 3


@every_method
def test_one_pair_is_enough_for_a_batch(name):
    env = environment(n_pairs=2, validation_fraction=0.5)
    outcome = run_condition(Condition(DIRECT[name](policy_fit=PreferenceFitConfig(steps=5, validate_every=5)), env))
    assert outcome.results.validation_loss.notna().all()


@every_method
def test_methods_order_responses_as_their_policy_does(name):
    env = environment()
    policy, x = moved(env), env.prompts("test", 20)
    every = env.all_responses().expand(2, 20, -1, -1)
    with torch.no_grad():
        scores, log_ratio = DIRECT[name]().score(policy, x, every), policy.log_ratio(x, every)
    in_order = scores.gather(-1, log_ratio.argsort(-1))  # the reference is uniform
    assert (in_order.diff() >= -1e-6).all()
    assert (in_order.diff() > 0).float().mean() > 0.99


def test_methods_are_imported_without_torch():
    modules = ", ".join(sorted({method.__module__ for method in DIRECT.values()}))
    check = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def written(policy, n_pairs):
    """Pairs that the policy wrote itself to similar prompts: likelier than by the reference, even if mismatched."""
    x = 0.3 * policy.env.prompts("test", n_pairs)
    return Preferences(x, policy.sample(x, 2))


#: KTO with no setting at its default.
OTHER_KTO = KTO(temperature=0.6, desirable_weight=1.5, undesirable_weight=0.7)


def of_both(log_ratio, z):
    """Its mean loss, at beta 0.5, of the chosen as desirable and the rejected as undesirable ones."""
    return kto_loss(log_ratio, torch.tensor([True, False]), z, 0.3, (1.5, 0.7)).mean(-1)


def test_the_reference_point_of_kto_is_of_mismatched_pairs():
    """KTO compares each response with the mean over prompts with the responses to the next."""
    policy = moved(environment())
    pairs = written(policy, 6)
    points = []
    for seed in range(2):
        mismatched = [
            policy.log_ratio(pairs.prompts[:, i : i + 1], pairs.responses[:, j : j + 1])[seed, 0, k].item()
            for i, j in enumerate([1, 2, 3, 4, 5, 0])
            for k in range(2)
        ]
        points.append(max(0.0, sum(mismatched) / 12))
    assert max(points) > 0
    log_ratio = policy.log_ratio(pairs.prompts, pairs.responses).detach()
    by_hand = of_both(log_ratio, torch.tensor(points)[:, None, None])
    assert torch.allclose(OTHER_KTO.loss(policy, pairs, OTHER_KTO.beta_of_loss(0.5)), by_hand, atol=1e-6)


def test_ktos_reference_point_has_no_gradient():
    policy = moved(environment())
    pairs = written(policy, 6)
    leaves = [p.requires_grad_(True) for p in policy.parameters.values()]
    gradients = torch.autograd.grad(OTHER_KTO.loss(policy, pairs, 0.3).sum(), leaves)
    with torch.no_grad():
        z = reference_point(policy.log_ratio(pairs.prompts, pairs.responses.roll(-1, 1)))
    assert z.max() > 0
    expected = torch.autograd.grad(of_both(policy.log_ratio(pairs.prompts, pairs.responses), z).sum(), leaves)
    for gradient, other in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, other, atol=1e-6)


def optimal(method, env, prompts, beta):
    """The policy that minimizes the expected loss on pairs of a uniform reference, (S, B, V ** T)."""
    rewards = env.reward(prompts, env.all_responses())
    win_rate = torch.sigmoid(rewards[..., :, None] - rewards[..., None, :]).mean(-1)
    by_method = {"dpo": rewards / beta, "robust_dpo": rewards / beta, "ipo": win_rate / beta, "sft": win_rate.log()}
    return by_method[method.stage].softmax(-1)


@pytest.mark.parametrize(
    ("method", "label_noise"),
    [(DPO(), 0.0), (IPO(temperature=1.0), 0.0), (SFT(), 0.0), (RobustDPO(label_noise=0.1), 0.1)],
    ids=["dpo", "ipo", "sft", "robust_dpo"],
)
def test_with_very_many_pairs_a_method_reaches_its_own_optimum(method, label_noise):
    env, beta = environment(output_dim=3, n_pairs=40000, labels=BradleyTerry(label_noise)), 0.5
    method = dataclasses.replace(method, policy_fit=PreferenceFitConfig(steps=1000, learning_rate=3e-3))
    policy = method.train(TrainingInputs(env, env.preference_data(), ModelConfig(), beta, Monitor())).policy
    x = env.prompts("test", 200)
    probabilities = policy.log_prob(x, env.all_responses()).exp()

    def distance(target):
        return ((probabilities - target).abs().sum(-1).mean() / 2).item()

    own = optimal(method, env, x, beta)
    assert distance(own) < 0.08, "total variation"
    assert (own - 1 / own.shape[-1]).abs().sum(-1).mean() / 2 > 0.1, "and the reference is far from it"
