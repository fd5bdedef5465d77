"""Defaults that stand in YAML alone: Python classes and the command line have the same ones."""

import subprocess
import sys

import pytest
import yaml
from hydra import compose, initialize_config_dir

from alignsim.cli.compose import plain_values
from alignsim.cli.hydra_compat import VERSION_BASE
from alignsim.config.defaults import conf_dir, yaml_values
from alignsim.methods.dpo import DPO
from alignsim.methods.preference_fit import PreferenceFitConfig
from alignsim.runs.train_config import load


def method(*overrides):
    with initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        return load(plain_values(compose("train", overrides=list(overrides)))).method


def test_a_method_without_arguments_is_that_of_its_file():
    assert DPO() == method("method=dpo")


def test_one_value_is_changed_and_the_others_keep_their_defaults():
    fit = method("method=dpo", "method.policy_fit.steps=7", "method.policy_fit.batch_size=9").policy_fit
    assert (fit.steps, fit.batch_size) == (7, 9)
    assert (fit.learning_rate, fit.patience) == (DPO().policy_fit.learning_rate, PreferenceFitConfig().patience)


def test_the_block_that_methods_share_stands_once():
    shared = yaml.safe_load((conf_dir() / "method" / "fit" / "default.yaml").read_text(encoding="utf-8"))
    assert vars(PreferenceFitConfig()) == pytest.approx(shared)
    for path in (conf_dir() / "method").glob("*.yaml"):
        parts = [part for part in yaml_values(f"method/{path.stem}").values() if isinstance(part, dict)]
        assert not any({"batch_size", "validate_every", "patience"} & part.keys() for part in parts), path


def test_numbers_are_read_as_hydra_reads_them():
    """YAML 1.1 takes 1e-3 for a text; OmegaConf and Hydra take it for a number."""
    assert all(isinstance(yaml_values("method/rl/grpo")[key], float) for key in ("learning_rate", "weight_decay"))


def test_importing_a_method_reads_no_file():
    check = "import sys, alignsim.methods.dpo; assert 'omegaconf' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
