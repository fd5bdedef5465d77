"""What the texts say a user can type, a user can type."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

import alignsim
import alignsim.envs.simplified
import alignsim.runs.text
from alignsim.cli.arguments import checked_command_line
from alignsim.config.problems import ConfigurationError
from alignsim.runs.train_config import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "conf").rglob("*.yaml")))]
COMMANDS = sorted({c.strip() for text in TEXTS for c in re.findall(r"python scripts/train\.py ([^#`\n&]+)", text)})
COMMANDS = [re.split(r"\s{2,}", command)[0] for command in COMMANDS]


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("--help")])
def test_every_training_command_in_the_texts_is_a_good_one(command):
    try:
        checked_command_line(shlex.split(command), "train", load)
    except ConfigurationError as refusal:  # an extra that this environment lacks
        if any("is not installed; pip install" not in str(problem) for problem in refusal.problems):
            raise


def test_continuous_integration_runs_the_test_command_of_the_readme():
    assert len(re.findall(r"^pip install .*pytest.*$", README, flags=re.MULTILINE)) == 1
    assert "grep -m 1 'pip install .*pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_figures_of_the_readme_are_there():
    for path in re.findall(r"\]\((\.github/[^)]+)\)", README):
        assert (ROOT / path).stat().st_size > 10_000


def test_the_public_names_are_importable_and_documented():
    for name in alignsim.__all__:
        assert len(getattr(alignsim, name).__doc__) > 50
        assert name in README or name in ("PolicyModel", "RewardModel")
    with pytest.raises(AttributeError):
        _ = alignsim.nothing


@pytest.mark.parametrize("module", [alignsim.envs.simplified, alignsim.runs.text])
def test_the_examples_in_docstrings_are_true(module):
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
