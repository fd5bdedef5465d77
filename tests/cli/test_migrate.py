"""`migrate=FILE`: YAML files with old keys, rewritten, compose to what today's files compose to."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from alignsim.cli.compose import plain_values
from alignsim.cli.hydra_compat import VERSION_BASE
from alignsim.cli.migrate import migrate, planned_migration
from alignsim.config.defaults import conf_dir
from alignsim.config.problems import ConfigurationError
from alignsim.config.renames import new_keys
from alignsim.runs.train_config import load
from tests.commands import run

#: The YAML files of the version before the keys were renamed, each below a line `=== path`.
OLD = dict(
    part.split("\n", 1) for part in (Path(__file__).parent / "old_conf.txt").read_text("utf-8").split("=== ")[1:]
)
GROUP_FILES = [path for path in OLD if not path.startswith("experiment/")]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A folder of the old files, rewritten; their names begin with `old_`, so that none hides one of today."""
    conf = tmp_path_factory.mktemp("conf")
    for path, text in OLD.items():
        file = (conf / path).with_name(f"old_{Path(path).name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    migrate([f"migrate={conf}"])
    return conf


def composed(conf, *overrides):
    with initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        search_path = f"hydra.searchpath=['file://{conf}']"
        return load(plain_values(compose("train", overrides=[search_path, *overrides])))


def migration(text, path="mine.yaml"):
    return planned_migration(Path(path), text)


def rewritten(text, path="mine.yaml"):
    plan = migration(text, path)
    assert not plan.left
    return plan.new_text


@pytest.mark.parametrize("path", GROUP_FILES)
def test_old_files_compose_to_what_todays_compose_to(migrated, path):
    group, _, name = path.removesuffix(".yaml").rpartition("/")
    method = ["method=rlhf"] * group.startswith("method/")
    assert composed(migrated, *method, f"{group}=old_{name}") == composed(migrated, *method, f"{group}={name}")


@pytest.mark.parametrize("path", OLD)
def test_every_comment_of_an_old_file_stays(migrated, path):
    file = (migrated / path).with_name(f"old_{Path(path).name}")
    comments = [line.partition("#")[2] for line in OLD[path].splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in file.read_text("utf-8").splitlines() if "#" in line] == comments


@pytest.mark.parametrize("path", OLD)
def test_a_rewritten_file_is_up_to_date(migrated, path):
    file = (migrated / path).with_name(f"old_{Path(path).name}")
    assert not migration(file.read_text("utf-8"), file).edits
    backup = file.with_name(f"{file.name}.bak")
    assert not backup.exists() or backup.read_text("utf-8") == OLD[path]


@pytest.mark.parametrize("name", ["tune", "one_reward_model"])
def test_old_presets_become_todays(migrated, name):
    old, new = ((folder / "experiment") for folder in (migrated, conf_dir()))
    values = [yaml.safe_load(path.read_text("utf-8")) for path in (old / f"old_{name}.yaml", new / f"{name}.yaml")]
    settings = [{key: v.get(key) for key in ("hydra", "method", "search", "random", "seeds")} for v in values]
    assert settings[0] == settings[1]


def test_no_file_of_today_has_an_old_key():
    for path in sorted(conf_dir().rglob("*.yaml")):
        plan = migration(path.read_text("utf-8"), path)
        assert (plan.edits, plan.left) == (set(), []), path


def test_what_several_methods_mean_differently_is_left(migrated):
    """`method.supervised` of a preset that sweeps RLHF and DPO."""
    path = migrated / "experiment" / "old_implicit_control.yaml"
    (line,) = migration(path.read_text("utf-8"), path).left
    assert line.startswith("line 17: supervised")
    assert "method.reward_fit for rlhf" in line
    assert "method.policy_fit for dpo" in line


ENVIRONMENTS = [
    ("label_noise: 0.2\n", "labels: {flip_probability: 0.2}\n"),
    ("preferences: deterministic\n", "labels: {_target_: alignsim.envs.labels.Deterministic}\n"),
    (
        "preferences: deterministic  # how\nn_pairs: 5\nlabel_noise: 0.2\n",
        "labels: {_target_: alignsim.envs.labels.Deterministic, flip_probability: 0.2}  # how\nn_pairs: 5\n",
    ),
    (
        "label_noise: 0.2\npreferences: bradley_terry",
        "labels: {_target_: alignsim.envs.labels.BradleyTerry, flip_probability: 0.2}\n",
    ),
    ("reference_tilt: -0.5\n", "reference: {_target_: alignsim.envs.references.Tilted, tilt: -0.5}\n"),
    ("reference_tilt: 0.0\n", "reference: {_target_: alignsim.envs.references.Uniform}\n"),
    ("{n_pairs: 5, label_noise: 0.1}\n", "{n_pairs: 5, labels: {flip_probability: 0.1}}\n"),
    (
        "{preferences: deterministic, label_noise: 0.1}\n",
        "{labels: {_target_: alignsim.envs.labels.Deterministic, flip_probability: 0.1}}\n",
    ),
]


@pytest.mark.parametrize(("old", "new"), ENVIRONMENTS, ids=[old.strip() for old, _ in ENVIRONMENTS])
def test_an_environment_gets_components(old, new):
    assert rewritten(old, "env/mine.yaml") == new


def test_a_group_is_known_by_its_target_too():
    text = "_target_: alignsim.envs.simplified.SimplifiedEnvironment\nreference_tilt: 0.5\n"
    assert "alignsim.envs.references.Tilted, tilt: 0.5" in rewritten(text)
    assert rewritten("_target_: alignsim.methods.sft.SFT\nsupervised: {steps: 3}\n").endswith(
        "policy_fit: {steps: 3}\n"
    )
    (line,) = migration("supervised: {steps: 3}\n").left
    assert "supervised" in line


def test_old_import_paths_become_new_ones():
    text = "optimizer:\n  _target_: alignsim.methods.supervised.Supervised  # mine\n"
    new = "optimizer:\n  _target_: alignsim.methods.preference_fit.PreferenceFitConfig # mine\n"
    assert rewritten(text, "method/mine.yaml") == new


PRESET = """# @package _global_
hydra:
  sweeper:
    params:
      method: rlhf,rlhf_grpo
      "method.*.prompts": 8,16
      method.supervised.steps: 40,80   # of the reward model
      env.preferences: bradley_terry,deterministic
      env.reference_tilt: -0.5,0,0.5
      env.label_noise?: 0.1
seeds: {count: 4, chunk: 2}
method:
  rl:
    prompts: ${random.seed}
claims:
  more_steps:
    along: method.supervised.steps
    condition: {method: rlhf, env.preferences: [deterministic]}
    baseline: {method: dpo, method.supervised.steps: 40}
    where: {env.reference_tilt: 0.5, env.label_noise: 0.1}
"""

NEW_PRESET = """# @package _global_
hydra:
  sweeper:
    params:
      method: rlhf,rlhf_grpo
      "method.*.prompts_per_step": 8,16
      method.reward_fit.steps: 40,80   # of the reward model
      env/labels: bradley_terry,deterministic
      env/reference: tilted
      env.reference.tilt: -0.5,0,0.5
      env.labels.flip_probability?: 0.1
seeds: {count: 4, per_stack: 2}
method:
  rl:
    prompts_per_step: ${search.seed}
claims:
  more_steps:
    along: method.reward_fit.steps
    condition: {method: rlhf, env.labels._target_: [alignsim.envs.labels.Deterministic]}
    baseline: {method: dpo, method.policy_fit.steps: 40}
    where: {env.reference.tilt: 0.5, env.labels.flip_probability: 0.1}
"""


def test_a_preset_is_rewritten_key_by_key():
    assert rewritten(PRESET) == NEW_PRESET
    assert rewritten(PRESET.replace("\n", "\r\n")) == NEW_PRESET.replace("\n", "\r\n")


LEFT = [
    ("env/mine.yaml", "label_noise: ${noise}\n", "label_noise"),
    ("env/mine.yaml", "preferences: mine\n", "preferences"),
    ("env/mine.yaml", "labels: {flip_probability: 0.1}\nlabel_noise: 0.2\n", "label_noise"),
    ("method/mine.yaml", "_target_: not_there.Method\nsupervised: {steps: 3}\n", "supervised"),
    ("method/mine.yaml", "_target_: alignsim.methods.dpo.DPO\nsupervised: {}\npolicy_fit: {}\n", "supervised"),
    ("seeds/mine.yaml", "chunk: [\n", "flow"),
]


@pytest.mark.parametrize(("path", "text", "about"), LEFT, ids=[text.strip() for _, text, _ in LEFT])
def test_what_cannot_be_decided_is_said_and_left(path, text, about):
    plan = migration(text, path)
    assert plan.new_text == text
    (line,) = plan.left
    assert about in line


def test_a_field_of_the_users_own_class_is_no_old_key(tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(
        "from pydantic.dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Own:\n    supervised: int = 1\n    prompts: int = 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "_target_: own_method.Own\nsupervised: 3\nprompts: 4\n"
    assert rewritten(text, "method/mine.yaml") == text


def test_the_command_rewrites_files_and_folders(tmp_path):
    """Backups of two runs stand beside each other; a folder of results is left alone."""
    conf = tmp_path / "conf"
    for path, text in {
        "seeds/a.yaml": "chunk: 2\n",
        "env/b.yaml": "n_pairs: 3\n",
        "done/config.yaml": "chunk: 2\n",
    }.items():
        (conf / path).parent.mkdir(parents=True, exist_ok=True)
        (conf / path).write_text(text)
    (conf / "done" / "status.json").write_text("{}")
    output = run("train", "migrate=conf", cwd=tmp_path)
    assert output.splitlines() == [
        "conf/env/b.yaml: up to date",
        "conf/seeds/a.yaml: 1 changes; as it was: conf/seeds/a.yaml.bak",
        "  line 1: chunk -> per_stack",
    ]
    (conf / "seeds" / "a.yaml").write_text("chunk: 3\n")
    run("train", "migrate=conf/seeds/a.yaml", "migrate=conf/env/b.yaml", cwd=tmp_path)
    assert (conf / "seeds" / "a.yaml").read_text() == "per_stack: 3\n"
    assert (conf / "seeds" / "a.yaml.bak").read_text() == "chunk: 2\n"
    assert (conf / "seeds" / "a.yaml.bak2").read_text() == "chunk: 3\n"
    assert (conf / "done" / "config.yaml").read_text() == "chunk: 2\n"


def test_the_command_has_an_exit_code_for_each_end(tmp_path):
    (tmp_path / "mine.yaml").write_text("# @package _global_\nmethod: {supervised: {steps: 3}}\n")
    assert "left to you: line 2" in run("train", "migrate=mine.yaml", cwd=tmp_path, code=1)
    assert "must be an existing" in run("train", "migrate=mine.yaml", "migrate=nowhere", cwd=tmp_path, code=2)
    assert "method=dpo" in run("train", "migrate=mine.yaml", "method=dpo", cwd=tmp_path, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_file_of_another_encoding_is_left(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_bytes("chunk: 2  # größer\n".encode("latin-1"))
    assert not migrate([f"migrate={tmp_path}"])
    assert "UTF-8" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_nothing_is_written_where_a_file_is_missing(tmp_path):
    file = tmp_path / "seeds" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("chunk: 2\n")
    with pytest.raises(ConfigurationError):
        migrate([f"migrate={file}", f"migrate={tmp_path / 'nowhere'}"])
    assert file.read_text() == "chunk: 2\n"


def test_old_files_have_old_keys():
    """So that this module would notice if it tested nothing."""
    assert new_keys("seeds.chunk")
    assert sum("supervised:" in text for text in OLD.values()) >= 20
