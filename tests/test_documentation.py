"""What the texts say a user can type, a user can type."""

import doctest
import importlib
import pkgutil
import re
import shlex
import sys

import pytest

import alignsim
from alignsim.cli.arguments import checked_command_line
from alignsim.config.problems import ConfigurationError
from alignsim.runs.train_config import load
from tests.docs.texts import PAGES, README, ROOT, example_files

COMMAND = re.compile(r"python (?:scripts/train\.py|-m alignsim train) ([^#`\n&|]+)")
TEXTS = [*PAGES.values(), *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "conf").rglob("*.yaml")))]
COMMANDS = sorted({re.split(r"\s{2,}", c.strip())[0] for text in TEXTS for c in COMMAND.findall(text)})

#: Lines that show a form and not a command, and commands that check nothing or are checked elsewhere.
#: Presets as they stand are planned by tests/analysis/claims/test_conditions.py.
FORMS = re.compile(r"\.\.\.|=NAME$|^KEY=|--help|migrate=|^-m experiment=\w+$")


@pytest.fixture
def folder_of_examples(tmp_path, monkeypatch):
    """A folder of YAML files with the examples of the texts, whose classes Python finds."""
    for name, text in example_files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for module in ("my_envs", "my_envs.agreement", "my_methods", "my_methods.hinge"):  # of another test's folder
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "my_conf"


@pytest.mark.parametrize("command", [command for command in COMMANDS if not FORMS.search(command)])
def test_every_training_command_in_the_texts_is_a_good_one(command, folder_of_examples):
    arguments = shlex.split(command)
    if "--config-dir" in arguments:
        arguments[arguments.index("--config-dir") + 1] = str(folder_of_examples)
    elif "=my_" in command:
        arguments += ["--config-dir", str(folder_of_examples)]
    if "experiment=tune" in arguments and "hydra/sweeper=optuna_search" not in arguments:
        arguments.append("search.num_trials=1")  # whether the other trials are good is the business of tests/cli
    try:
        checked_command_line(arguments, "train", load)
    except ConfigurationError as refusal:  # an extra that this environment lacks
        if any("is not installed; pip install" not in str(problem) for problem in refusal.problems):
            raise


def test_ci_runs_the_test_command_of_the_readme():
    assert len(re.findall(r"^pip install .*pytest.*$", README, flags=re.MULTILINE)) == 1
    assert "grep -m 1 'pip install .*pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_is_a_front_page_and_no_manual():
    assert len(README.splitlines()) < 200
    assert len(README.split()) < 1300


def test_the_public_names_are_importable_and_documented():
    for name in alignsim.__all__:
        assert len(getattr(alignsim, name).__doc__) > 50
        assert f"alignsim.{name}\n" in PAGES["docs/reference/python.md"]
    with pytest.raises(AttributeError):
        _ = alignsim.nothing


def test_the_examples_in_docstrings_are_true():
    names = [info.name for info in pkgutil.walk_packages(alignsim.__path__, "alignsim.")]
    results = {name: doctest.testmod(importlib.import_module(name)) for name in names}
    assert not [name for name, (failed, _) in results.items() if failed]
    assert sum(tried for _, tried in results.values()) > 2


def test_no_text_names_the_machine_it_was_written_on():
    for name, text in PAGES.items():
        assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root)/", text), name
