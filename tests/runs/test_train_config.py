import dataclasses
import json

import pytest
from hydra import compose, initialize_config_dir

from alignsim.cli.compose import plain_values
from alignsim.cli.hydra_compat import VERSION_BASE
from alignsim.config.checking import import_class
from alignsim.config.defaults import conf_dir
from alignsim.config.problems import ConfigurationError
from alignsim.runs.train_config import load, to_plain

GROUPS = ("env", "model", "method", "method/rl", "seeds")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


def composed(*overrides):
    with initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        return plain_values(compose("train", overrides=list(overrides)))


def problems(values):
    with pytest.raises(ConfigurationError) as caught:
        load(values)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_yaml_file_composes_to_a_checked_configuration(group, option):
    config = load(composed(f"{group}={option}"))
    assert load(config.to_plain()) == config


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_yaml_file_begins_with_a_command_that_chooses_it(group, option):
    text = (conf_dir() / group / f"{option}.yaml").read_text()
    command = next(line for line in text.splitlines() if "python" in line)
    assert command.startswith(f"#   python scripts/train.py {'method=rlhf ' * ('/' in group)}{group}={option}")


@pytest.mark.parametrize(
    ("group", "option"),
    [
        ("env", "gap"),
        ("model", "made"),
        *(option for option in OPTIONS if option[0] == "method" and not option[1].startswith("rlhf_")),
    ],
)
def test_the_defaults_in_yaml_are_the_defaults_in_code(group, option):
    values = composed(f"{group}={option}")[group]
    assert values == to_plain(import_class(values["_target_"])())


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "method/rl"])
def test_defaults_of_optimizers_are_those_of_yaml(option):
    values = composed(f"method/rl={option}")["method"]
    assert values["rl"] == to_plain(import_class(values["rl"]["_target_"])())
    if option != "rloo":  # an option of its own, to sweep over, whose reward model is tuned with it
        assert composed(f"method=rlhf_{option}")["method"]["rl"] == values["rl"]


@pytest.mark.parametrize("network", ["alignsim.models.linear.Linear", "alignsim.models.transformer.Transformer"])
def test_defaults_of_networks_are_those_of_yaml(network):
    values = composed(f"model={network.rpartition('.')[2].lower()}")["model"]
    assert values == to_plain(dataclasses.replace(load(composed()).model, policy=import_class(network)()))


def test_the_implicit_model_differs_in_its_reward():
    model, default = (load(composed(f"model={name}")).model for name in ("implicit", "made"))
    assert dataclasses.replace(model, reward=default.reward) == default
    assert dataclasses.replace(model.reward, head="tokenwise", reads="content") == default.reward


def test_a_reward_model_may_have_its_own_network():
    wide = "{_target_: alignsim.models.made.MADE, hidden_dim: 128}"
    config = load(composed(f"model.reward.network={wide}", "model=transformer"))
    assert (config.model.reward.network.hidden_dim, config.model.reward.network.n_layers) == (128, 2)
    assert config.model.policy.model_dim == 32
    assert load(config.to_plain()) == config


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"head": "implicit"}, "head=implicit: must be tokenwise or scalar where reads=content; the reward that"),
        ({"head": "pairwise"}, "head=pairwise: must be 'tokenwise', 'scalar' or 'implicit'"),
        ({"heads": "scalar"}, "heads=scalar: unknown key; did you mean head? keys of model.reward:"),
        ({"network": 3}, "network=3: must be"),
        (
            {"network": {"hidden_dim": 64}},
            "network._target_: is missing: the import path of a class that is a alignsim.models.network.N",
        ),
        (
            {"network": {"_target_": "alignsim.models.network.Network"}},
            "network._target_=alignsim.models.network.Network: must be a dataclass that inherits from",
        ),
        (
            {"network": {"_target_": "alignsim.models.made.MADE", "hidden_dim": 4}},
            "network.hidden_dim=4: must be at least env.output_dim=8, one unit for each position",
        ),
        (
            {"network": {"_target_": "alignsim.models.made.MADE", "hiden_dim": 4}},
            "network.hiden_dim=4: unknown key; did you mean hidden_dim?",
        ),
        (
            {"network": {"_target_": "alignsim.models.transformer.Transformer", "n_heads": 3}},
            "network.n_heads=3: must divide model_dim=32",
        ),
    ],
    ids=str,
)
def test_a_reward_model_that_cannot_be_is_refused(changes, told):
    values = composed()
    values["model"]["reward"] |= changes
    (problem,) = problems(values)
    assert problem.startswith(f"model.reward.{told}")


def test_the_defaults_in_train_yaml_are_the_defaults_in_code():
    config = load(composed())
    assert config.run == type(config.run)()


def test_what_a_users_file_leaves_out_has_its_default():
    config = load(composed() | {"env": {"complexity_factor": 2.5}})
    assert config.env == dataclasses.replace(load(composed()).env, complexity_factor=2.5)


def test_the_hash_is_that_of_the_condition_and_of_nothing_else():
    base = load(composed()).hash
    for same in (
        "seeds=many",
        "env.complexity_factor=2",
        "beta=5e-1",
        "seeds.first=5",
        "study=other",
        "device=cpu",
        "output_dir=elsewhere",
    ):
        assert load(composed(same)).hash == base, same
    assert load(composed("env=no_gap", "env.complexity_factor=2.0")).hash == base
    others = ["beta=0.4", "env=no_gap", "env.labels.flip_probability=0.1", "method=dpo", "model.policy.hidden_dim=32"]
    others += ["env/reference=tilted", "env.coverage=0.5", "env/labels=deterministic"]
    others += ["method.rl.steps=100", "evaluation.prompts=100", "model.reward.reads=tokens"]
    others += ["model.reward.head=scalar", "model=implicit", "model=linear", "model=transformer"]
    assert len({base, *(load(composed(other)).hash for other in others)}) == len(others) + 1


def test_the_configuration_is_plain_json():
    json.dumps(load(composed()).to_plain(), allow_nan=False)


def test_all_problems_are_reported_at_once():
    """Each with its key, its value and what is allowed."""
    values = composed()
    values["env"] |= {"complexity_factor": 0.5, "n_pair": 10, "vocab_size": 1, "seeds": [1]}
    values["method"]["rl"]["samples_per_prompt"] = 1
    values |= {"beta": float("nan"), "device": "tpu", "study": "../../x", "bta": 1}
    told = problems(values)
    expected = [
        "env.complexity_factor=0.5: must be greater than or equal to 1",
        "env.vocab_size=1: must be greater than or equal to 2",
        "env.n_pair=10: unknown key; did you mean n_pairs? keys of env:",
        "env.seeds=[1]: unknown key",
        "method.rl.samples_per_prompt=1: must be greater than or equal to 2",
        "beta=NaN: must be a finite number",
        "device=tpu: must be auto, cpu, cuda or cuda:N",
        "study=../../x: must be one folder name",
        "bta=1: unknown key; did you mean beta?",
    ]
    assert len(told) == len(expected)
    for start in expected:
        assert any(line.startswith(start) for line in told), (start, told)


@pytest.mark.parametrize("value", [True, "4", 4.0, None, [4], {"a": 1}, -4, 0, float("inf")])
def test_a_whole_number_is_a_whole_number(value):
    values = composed()
    values["env"]["n_pairs"] = value
    assert any(line.startswith("env.n_pairs=") for line in problems(values))


@pytest.mark.parametrize("target", ["nowhere.Thing", "alignsim.Nothing", "DPO", "json.JSONDecoder", 3, None])
def test_a_class_that_cannot_be_a_method_is_refused(target):
    values = composed()
    values["method"]["_target_"] = target
    (told,) = problems(values)
    assert told.startswith("method._target_")


@pytest.mark.parametrize("group", ["env", "model", "method"])
def test_a_group_that_is_no_mapping_is_refused(group):
    assert any(line.startswith(group) for line in problems(composed() | {group: "gap"}))


@pytest.mark.parametrize("study", ["", ".", "..", "a/b", ".hidden", " a", "a\n", "a:b", "x" * 101])
def test_a_study_is_one_folder(study):
    assert problems(composed() | {"study": study})[0].startswith("study=")


def test_names_with_spaces_and_other_letters_are_fine():
    assert load(composed() | {"study": "Größe 2, Übung"}).run.study == "Größe 2, Übung"
