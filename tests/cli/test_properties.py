"""Whatever a user types or writes into a file is either a valid configuration or refused with one clear message."""

import math
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alignsim.cli.arguments import checked_command_line
from alignsim.config.dotted import flatten
from alignsim.config.problems import ConfigurationError
from alignsim.runs.train_config import load
from tests.commands import run

KEYS = [
    *flatten(load({"method": {"_target_": "alignsim.methods.rlhf.RLHF"}}).to_plain()),
    *("env", "model", "method", "seeds", "hydra.sweep.dir", "hydra/launcher", "hydra/sweeper", "hydra", "search"),
]
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2, 0.5, 10**30, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -float("inf")]),
)
WORDS = st.one_of(
    st.sampled_from(["", " ", "null", "true", "gap", "no_gap", "dpo", "rlhf", "../../x", "~", "ü", "日本", "a b", "."]),
    st.sampled_from(["[1,2]", "{a:1}", "1,2", "interval(0,1)", "range(1,4)", "choice(a,b)", "glob(*)", "tag(log,1)"]),
    st.sampled_from(["${beta}", "${nowhere}", "${env}", "???", "${oc.env:HOME}", "'", '"', "\\", "a=b", "[", "}"]),
    st.text(max_size=20).filter(lambda text: "\x00" not in text),
)
VALUES = st.one_of(NUMBERS.map(str), WORDS)
SIGNS = st.sampled_from(["", "+", "++", "~"])
ARGUMENTS = st.one_of(
    st.builds("{}{}={}".format, SIGNS, st.sampled_from(KEYS), VALUES),
    st.builds("{}={}".format, st.text(max_size=8), VALUES).filter(lambda text: "\x00" not in text and text[0] != "-"),
    st.sampled_from(["env=no_gap", "method=dpo", "seeds=quick", "beta", "~beta", "~env", "env.complexity_factor=3"]),
)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.sampled_from([*(key.rpartition(".")[2] for key in KEYS), "defaults"])
FILES = st.one_of(
    st.dictionaries(NAMES, PLAIN, max_size=4).map(yaml.dump),
    PLAIN.map(yaml.dump),
    st.sampled_from(["", "\n", "# nothing", "3", "- a", "a:\n\t- b", "a: 1\na: 2", "{", "%", "a: &a\n  b: *a"]),
    st.sampled_from(["defaults: [mine]", "defaults: mine", "defaults: [gap, nowhere]", "!!python/object:os.system {}"]),
    st.text(max_size=60),
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Whatever is drawn, no file appears in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def assert_valid_or_refused(arguments):
    try:
        line = checked_command_line(arguments, "train", load)
    except ConfigurationError as error:
        assert_short_and_clear(error)
        return
    for job in line.jobs:
        config = job.config
        assert load(config.to_plain()) == config
        assert config.run.beta > 0
        assert math.isfinite(config.run.beta)
        assert 1 <= config.env.complexity_factor <= config.env.output_dim
        study = Path("outputs") / config.run.study
        assert Path(os.path.normpath(study)).parent == Path("outputs")


def assert_short_and_clear(refusal):
    lines = str(refusal).splitlines()
    assert len(lines) == 1 + len(refusal.problems) > 1
    assert all(len(line) < 500 and line.isprintable() for line in lines)


RELAXED = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(RELAXED, max_examples=300)


@RELAXED
@given(st.lists(ARGUMENTS, max_size=4), st.booleans())
@example(["study=../../x"], False)
@example(["beta=1e999"], False)
@example(["seeds.count=99999999999999999999"], False)
@example(["++env._target_=os.system"], False)
def test_any_command_line_is_valid_or_refused(arguments, multirun):
    assert_valid_or_refused(["-m"] * multirun + arguments)


@pytest.mark.slow
@MANY
@given(st.lists(ARGUMENTS, max_size=4), st.booleans())
def test_many_command_lines_are_valid_or_refused(arguments, multirun):
    assert_valid_or_refused(["-m"] * multirun + arguments)


@RELAXED
@given(st.sampled_from(["env", "model", "method", "seeds"]), FILES)
@example("env", "defaults: [mine]")
@example("method", "")
@example("env", "a: .nan")
def test_any_group_file_is_valid_or_refused(group, content):
    assert_file_valid_or_refused(group, content)


@pytest.mark.slow
@MANY
@given(st.sampled_from(["env", "model", "method", "seeds"]), FILES)
def test_many_group_files_are_valid_or_refused(group, content):
    assert_file_valid_or_refused(group, content)


def assert_file_valid_or_refused(group, content):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / group).mkdir()
        (Path(folder) / group / "mine.yaml").write_text(content, encoding="utf-8", errors="replace")
        assert_valid_or_refused(["--config-dir", folder, f"{group}=mine"])


@settings(RELAXED, max_examples=50)
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=8)), PLAIN, max_size=5))
def test_any_plain_values_are_valid_or_refused(values):
    try:
        config = load({"method": {"_target_": "alignsim.methods.dpo.DPO"}, **values})
    except ConfigurationError as error:
        assert_short_and_clear(error)
        return
    assert load(config.to_plain()) == config


ALLOWED = ["Größe 1, ü", "日本", "a b", "x" * 100, "-m", "a'b", "a=b"]
REFUSED = ["../../x", "..", "con:", "a\nb", "[1]", "null", "true", "1e3", "x" * 101]


@pytest.mark.parametrize(("study", "code"), [*((name, 0) for name in ALLOWED), *((name, 2) for name in REFUSED)])
def test_odd_names_of_studies_are_allowed_or_refused(study, code, tmp_path):
    cwd = tmp_path.parent / f"{tmp_path.name}-study"
    cwd.mkdir()
    output = run("train", "method=dpo", f"study={study}", "dry_run=true", cwd=cwd, code=code)
    assert ("1 new; nothing was done" if code == 0 else "\n  study=") in output
    assert list(cwd.iterdir()) == []
