"""Every setting of every method that `conf/method/` names changes what is trained: none is stored and not used."""

import dataclasses
from typing import get_args, get_type_hints

import pytest
import yaml

from alignsim import SimplifiedEnvironment
from alignsim.config.checking import import_class
from alignsim.config.defaults import conf_dir
from alignsim.config.schema import Evaluation
from alignsim.methods.rlhf import RLHF
from alignsim.runs.condition import Condition, run_condition
from tests.methods.test_direct_methods import CLASSES

#: Values at which each setting has something to say in a short run, and others to compare them with.
VALUES = {
    "steps": (60, 3),
    "validate_every": (5, 20),
    "patience": (1, 1000),
    "warmup_steps": (5, 10),
    "batch_size": (10, 20),
    "learning_rate": (2e-2, 1e-2),
    "weight_decay": (0.5, 5.0),
    "prompts_per_step": (6, 7),
    "samples_per_prompt": (3, 4),
    "epochs": (2, 3),
    "clip": (0.01, 0.2),
    "steps_per_iteration": (10, 15),
    "n": (4, 5),
    "gae_lambda": (0.9, 0.4),
}


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return 0.7 if value is None else 0.6 * value


def settings(part, path=()):
    """The paths of all settings of a method, and another value for each."""
    for field in dataclasses.fields(part):
        value, here = getattr(part, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, here)
        elif isinstance(value, str):
            options = get_args(get_type_hints(type(part))[field.name])
            yield from ((here, option) for option in options if option != value)
        else:
            yield here, VALUES[field.name][1] if field.name in VALUES else changed(value)


def replaced(part, path, value):
    name, *rest = path
    return dataclasses.replace(part, **{name: replaced(getattr(part, name), rest, value) if rest else value})


def shortened(part):
    """A method or a part of one with few steps, at the values to compare with."""
    new = {name: values[0] for name, values in VALUES.items() if hasattr(part, name)}
    for field in dataclasses.fields(part):
        if dataclasses.is_dataclass(value := getattr(part, field.name)):
            new[field.name] = shortened(value)
    return dataclasses.replace(part, **new)


def result(method, beta=0.5):
    env = SimplifiedEnvironment(3, 3, 2.0, n_pairs=40, seeds=(0, 1))
    evaluation = Evaluation(prompts=10, pairs=20, curve_prompts=2)
    outcome = run_condition(Condition(method, env, beta=beta, evaluation=evaluation))
    return outcome.results.to_csv() + outcome.history.to_csv()


OPTIMIZERS = [
    import_class(yaml.safe_load(p.read_text())["_target_"]) for p in sorted(conf_dir().glob("method/rl/*.yaml"))
]
METHODS = [
    *(method() for name, method in CLASSES.items() if name != "rlhf"),
    *(RLHF(rl=optimizer()) for optimizer in OPTIMIZERS),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(getattr(m, "rl", m)).__name__)
def test_every_setting_of_a_method_is_used(method):
    method = shortened(method)
    plain = result(method)
    assert plain == result(method)
    paths = list(settings(method))
    assert paths
    unused = [".".join(path) for path, value in paths if result(replaced(method, path, value)) == plain]
    assert not unused
