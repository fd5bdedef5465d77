"""The command line as a user meets it: real processes."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alignsim.cli.arguments import checked_command_line
from alignsim.config.problems import ConfigurationError
from alignsim.config.version import VERSION
from alignsim.runs.train_config import load
from tests.commands import ROOT, TINY, environment, folders, run, run_afresh


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the comparison and one condition more were trained."""
    cwd = tmp_path_factory.mktemp("trained")
    (cwd / "here" / "env").mkdir(parents=True)
    (cwd / "here" / "env" / "my_gap.yaml").write_text(
        "complexity_factor: 3\nn_pairs: 150\nlabels:\n  flip_probability: 0.1\n"
    )
    run("train", "-m", "method=rlhf", "env=gap,no_gap", *TINY, "method.rl.steps=10", cwd=cwd)
    run("train", "-m", "method=dpo", "env=gap,no_gap", *TINY, cwd=cwd)
    own = ["--config-dir", "here", "env=my_gap", "method=dpo", *TINY, "env.reward_scale=1.0", "env.n_pairs=140"]
    run("train", *own, cwd=cwd)
    return cwd


def test_single_runs_and_multiruns_land_in_one_study(trained):
    found = folders(trained / "outputs" / "default")
    assert sorted(found) == ["dpo-gap", "dpo-my_gap", "dpo-no_gap", "rlhf-gap", "rlhf-no_gap"]
    for folder in found.values():
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["config.yaml", "history.csv", "log.txt", "results.csv", "status.json", "weights.pt"]


def test_a_run_leaves_tidy_results(trained):
    import torch
    from omegaconf import OmegaConf

    from alignsim.evaluation.measures import MEASURES
    from alignsim.runs.train_config import load

    folder = folders(trained / "outputs" / "default")["rlhf-gap"]
    results = pd.read_csv(folder / "results.csv")
    assert list(results.columns[:3]) == ["method", "env", "seed"]
    assert list(results.columns[3 : 3 + len(MEASURES)]) == list(MEASURES)
    assert not results.diverged.any()
    assert list(results.seed) == [0, 1]
    assert (results["env.complexity_factor"] == 2).all()
    assert (results["method.rl.steps"] == 10).all()
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "finished"
    assert status["error"] is None
    assert status["started"] <= status["ended"]
    assert {"alignsim", "torch", "python"} <= set(status["versions"])
    config = load(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
    assert folder.name.endswith(config.hash)
    history = pd.read_csv(folder / "history.csv")
    assert list(history.columns[:3]) == ["stage", "step", "seed"]
    assert set(history.stage) == {"reward_model", "rl"}
    fitted = history[(history.stage == "reward_model") & (history.seed == 1)]
    assert np.isclose(fitted.validation_loss.min(), results.validation_loss[1])
    assert history[history.stage == "rl"].normalized_value.notna().any()
    weights = torch.load(folder / "weights.pt", weights_only=True)
    assert weights.pop("seeds") == [0, 1]
    assert set(weights) == {"policy", "reward_model"}
    assert all(p.shape[0] == 2 for model in weights.values() for p in model.values())


def test_a_users_file_of_three_lines_is_a_condition(trained):
    results = pd.read_csv(folders(trained / "outputs" / "default")["dpo-my_gap"] / "results.csv")
    assert (results.env == "my_gap").all()
    values = results[["env.complexity_factor", "env.n_pairs", "env.labels.flip_probability", "env.reward_scale"]].iloc[
        0
    ]
    assert list(values) == [3, 140, 0.1, 1.0]


def test_the_weights_give_back_the_measured_policy(trained):
    import dataclasses

    import torch
    from omegaconf import OmegaConf

    from alignsim import PolicyModel
    from alignsim.evaluation.value import policy_value
    from alignsim.runs.train_config import load

    folder = folders(trained / "outputs" / "default")["dpo-gap"]
    config = load(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
    env = dataclasses.replace(config.env, seeds=(0, 1))
    policy = PolicyModel(env, config.model.policy)
    policy.parameters = torch.load(folder / "weights.pt", weights_only=True)["policy"]
    evaluation = config.run.evaluation
    value = policy_value(policy, config.run.beta, env.prompts("evaluation", evaluation.prompts), evaluation)
    assert np.allclose(value.value, pd.read_csv(folder / "results.csv")["value"], atol=1e-5)


def test_plot_draws_and_summarizes_a_study(trained):
    output = run("plot", cwd=trained)
    study = trained / "outputs" / "default"
    for name in ("rlhf_vs_dpo_comparison.png", "rlhf_vs_dpo_comparison.svg", "summary.csv"):
        assert (study / name).stat().st_size > 1000
        assert name in output
    assert "rlhf - dpo" in output
    assert "my_gap" in output
    assert (study / "rlhf_vs_dpo_comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert (study / "value_by_complexity_factor.png").exists(), "1, 2 and 3"


def test_a_repeated_run_writes_the_same_bytes(trained, tmp_path):
    arguments = ["method=rlhf", "env=gap", *TINY, "method.rl.steps=10"]
    run("train", *arguments, cwd=tmp_path)
    first = folders(trained / "outputs" / "default")["rlhf-gap"]
    second = folders(tmp_path / "outputs" / "default")["rlhf-gap"]
    for name in ("results.csv", "history.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_damaged_results_are_named_and_the_rest_is_drawn(trained, tmp_path):
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    found = folders(tmp_path / "outputs" / "default")
    (found["rlhf-gap"] / "results.csv").write_bytes(b"\x00\xff garbage")
    (found["dpo-gap"] / "results.csv").write_text("method,env,seed\ndpo,gap,0\n")
    (found["dpo-my_gap"] / "status.json").write_text("{")
    status = json.loads((found["rlhf-no_gap"] / "status.json").read_text())
    (found["rlhf-no_gap"] / "status.json").write_text(json.dumps(status | {"state": "running"}))
    (tmp_path / "outputs" / "default" / "dpo-empty-12345678").mkdir()
    output = run("plot", cwd=tmp_path)
    for folder in ("rlhf-gap", "dpo-gap"):
        assert f"{found[folder].name}/results.csv: cannot be read" in output
    assert f"{found['dpo-my_gap'].name}/status.json: cannot be read" in output
    assert f"{found['rlhf-no_gap'].name}: " in output
    assert "dpo-empty-12345678: " in output
    summary = pd.read_csv(tmp_path / "outputs" / "default" / "summary.csv")
    drawn = summary[summary.seeds == 2]
    assert {("dpo", "my_gap"), ("dpo", "no_gap"), ("rlhf", "no_gap")} <= {*zip(drawn.method, drawn.env, strict=True)}


def test_an_option_may_be_called_na(tmp_path):
    """Tables take NA for no value; and a cell that should be a number and is none is named."""
    (tmp_path / "my_conf" / "env").mkdir(parents=True)
    (tmp_path / "my_conf" / "env" / "NA.yaml").write_text("complexity_factor: 2.5\n")
    run("train", "--config-dir", "my_conf", "-m", "method=dpo", "env=NA,gap", "beta=0.5,0.6", *TINY, cwd=tmp_path)
    run("plot", cwd=tmp_path)
    study = tmp_path / "outputs" / "default"
    summary = pd.read_csv(study / "summary.csv", keep_default_na=False)
    assert list(summary.env) == ["NA", "NA", "gap", "gap"]
    damaged = sorted(study.glob("dpo-gap-*"))
    for folder, key in zip(damaged, ("beta", "env.complexity_factor"), strict=True):
        table = pd.read_csv(folder / "results.csv", dtype=str, keep_default_na=False)
        table.assign(**{key: "abc"}).to_csv(folder / "results.csv", index=False)
    output = run("plot", cwd=tmp_path)
    for folder, key in zip(damaged, ("beta", "env.complexity_factor"), strict=True):
        assert f"{folder.name}/results.csv: cannot be read (column {key}: " in output


def test_plot_clears_away_what_a_killed_one_has_left(trained, tmp_path):
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    study = tmp_path / "outputs" / "default"
    (study / ".aside-0").mkdir()
    (study / ".aside-0" / "summary.csv").touch()
    run("plot", cwd=tmp_path)
    assert {path.name for path in study.glob(".*")} == {".locks"}


def test_any_method_of_a_study_can_be_the_baseline(trained, tmp_path):
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    output = run("plot", "baseline=rlhf", cwd=tmp_path)
    assert "dpo - rlhf" in output
    assert "rlhf - dpo" not in output
    for argument, problem in (("baseline=rlfh", "baseline=rlfh: "), ("method=dpo", "method: ")):
        assert run("plot", argument, cwd=tmp_path, code=2).splitlines()[1].strip().startswith(problem)
    assert "report.html" in run("plot", "~baseline", cwd=tmp_path)


def test_plot_says_so_where_there_is_nothing_to_compare_with(tmp_path):
    run("train", "-m", "method=sft,ipo", *TINY, cwd=tmp_path)
    told = "nothing is compared: there is no dpo here; baseline=NAME takes one of ipo, sft"
    assert told in run("plot", cwd=tmp_path)
    output = run("plot", "baseline=ipo", cwd=tmp_path)
    assert "nothing is compared" not in output
    assert "not drawn" not in output
    (tmp_path / "outputs" / "default" / "ranking.png").touch()
    assert "which this command did not draw: ranking.png" in run("plot", "baseline=ipo", cwd=tmp_path)


def test_plot_without_results_says_what_there_is(trained, tmp_path):
    assert "study=nope: does not exist; outputs has default" in run("plot", "study=nope", cwd=trained, code=2)
    assert "outputs has no studies yet" in run("plot", cwd=tmp_path, code=2)
    (tmp_path / "outputs" / "empty").mkdir(parents=True)
    assert "no finished results" in run("plot", "study=empty", cwd=tmp_path, code=1)
    assert "study=../x: must be one folder name" in run("plot", "study=../x", cwd=tmp_path, code=2)
    assert "sudy=x: unknown key; did you mean study?" in run("plot", "sudy=x", cwd=tmp_path, code=2)
    assert "stud*=nope: " in run("plot", "stud*=nope", cwd=trained, code=2)


EXACT = "method.rl._target_=alignsim.methods.rl.exact_gradient.ExactGradient"
ABSTRACT = "alignsim.methods.direct.DirectMethod"


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["env.complexty_factor=3"], ["env.complexty_factor=3"]),
        (["+env.speed=3"], ["env.speed=3"]),
        (["n_pairs=10"], ["n_pairs=10"]),
        (["method.rl=pppo"], ["method.rl=pppo"]),
        (["method.rl=ppo"], ["method.rl=ppo"]),
        (["-m", "method.rl=ppo,grpo"], ["method.rl=ppo,grpo"]),
        (["env.reference=uniform"], ["env.reference=uniform"]),
        (["env.labels=noisy"], ["env.labels=noisy"]),
        (["env/labels=noisy"], ["env/labels=noisy"]),
        (["env=nope"], ["env=nope"]),
        (["-m", "env=gap,nope", "beta=1,0"], ["env=nope", "beta=0"]),
        (["-m", "env.complexity_factor=1,nan,9"], ["env.complexity_factor=NaN", "env.complexity_factor=9"]),
        (["seeds.count=0", "seeds.first=-1"], ["seeds.count=0", "seeds.first=-1"]),
        (["device=cuda:99"], ["device=cuda:99"]),
        (["env.n_pairs=2"], ["env.validation_fraction=0.2"]),
        (["model.reward.reads=lips"], ["model.reward.reads=lips"]),
        (["env=gap,no_gap"], ["env=gap,no_gap"]),
        (["env=[gap,no_gap]"], ['env=["gap", "no_gap"]']),
        (["mehtod=dpo"], ["mehtod=dpo"]),
        (["-m", "env.n_pairs=interval(10,20)", "search.num_trials=1"], ["env.n_pairs=11.8"]),
        (["-m", "beta=interval(0.1,1)"], ["beta=interval(0.1,1)"]),
        (["-m", "beta=interval(1,0)", "search.num_trials=2"], ["beta=interval(1,0)"]),
        (["-m", "+hydra.sweeper.params.beta=0.5"], ["hydra.sweeper.params.beta=0.5"]),
        (["-m", "hydra.sweeper.params.method=a,b"], ["hydra.sweeper.params.method=a,b"]),
        (["-m", "hydra.sweeper.max_batch_size=2"], ["hydra.sweeper.max_batch_size=2"]),
        (["-m", "hydra.sweep.dir=zzz", "hydra.sweep.subdir=x"], ["hydra.sweep.dir=zzz", "hydra.sweep.subdir=x"]),
        (["hydra.run.dir=zzz"], ["hydra.run.dir=zzz"]),
        (["hydra.searchpath=[file:///x]"], ["hydra.searchpath=[file:///x]"]),
        (["--config-path", "conf", "method=dpo"], ["--config-path=conf"]),
        (
            ["-m", "experiment=gap_vs_no_gap,verifier_control"],
            ["experiment=gap_vs_no_gap,verifier_control"],
        ),
        (["env._target_=..x"], ["env._target_=..x"]),
        (["env._target_=alignsim.envs.base.Environment"], ["env._target_=alignsim.envs.base.Environment"]),
        ([f"method._target_={ABSTRACT}"], [f"method._target_={ABSTRACT}"]),
        (["model=linear", "model.policy.hidden_dim=4"], ["model.policy.hidden_dim=4"]),
        (["model.policy.hidden_dim=4"], ["model.policy.hidden_dim=4"]),
        (["-m", "beta=-1,0"], ["beta=-1", "beta=0"]),
        (["beta=[1"], ["beta=[1"]),
        (["-m", "--cfg", "job"], ["--cfg"]),
        (["-m", "method=dpo,rlhf", "method.rl.steps=0"], ["method.rl.steps=0", "method.rl.steps=0"]),
        (["method/rl=trpo"], ["method/rl=trpo"]),
        (["method=dpo", "method/rl=ppo"], ["method/rl"]),
        (["-m", "env=glob(no*)", "beta=0"], ["beta=0"]),
        (["method=rlhf_exact", "env.output_dim=13"], [EXACT]),
        (["method=oracle_rlhf", "method/rl=exact", "env.output_dim=13"], [EXACT]),
        (["method=rlhf_exact", "env.output_dim=99"], [EXACT, "model.policy.hidden_dim=64"]),
        (["beta"], ["beta"]),
        (["=3"], ["=3"]),
        (["seed=3"], ["seed=3"]),
        (["search.num_trials=3"], ["search.num_trials=3"]),
        (["method=dpo", "-m", "search.seed=1"], ["search.seed=1"]),
        (["hydra/sweeper=basic"], ["hydra/sweeper=basic"]),
        (["env.coverage=0.001"], ["env.coverage=0.001"]),
        (["env.vocab_size=1", "env.coverage=0.001"], ["env.vocab_size=1"]),
        (["env.output_dim=1001", "beta=-1"], ["env.output_dim=1001", "beta=-1"]),
        (["model.policy.hidden_dim=20000"], ["model.policy.hidden_dim=20000"]),
        (["env/reference=tilted", "env.reference.tilt=-1e30"], ["env.reference.tilt=-1e+30"]),
        (["-m", "beta=range(1,1)"], ["beta=range(1,1)"]),
        (["-m", "beta=range(0,1,0)", "method=NULL"], ["beta=range(0,1,0)", "method=NULL"]),
        (["-m", "beta=shuffle(range(0,1e9))"], ["beta=shuffle(range(0,1e9))"]),
        (["-m", "method=rlhf", "method.*.steps=range(1,2001)"], ["-m"]),
        (["-m", "beta=range(0,1e9)"], ["beta=range(0,1e9)"]),
        (["-m", "beta=range(1,999)", "env.n_pairs=range(2,999)"], ["-m"]),
        (["method=null", "env="], ["method=null", "env="]),
        (["--nope"], ["command line"]),
        (["output_dir="], ["output_dir="]),
        (["method=best_of_n", "method.n=1000000"], ["method.n=1000000"]),
        (["~beta.x"], ["~beta.x"]),
        (["~env"], ["~env"]),
        (["beta=${nowhere}"], ["configuration"]),
        (["--config-dir", "nowhere"], ["--config-dir=nowhere"]),
        (["seeds.*=3"], ["seeds.*=3"]),
        (["*.count=3"], ["*.count=3"]),
        (["beta?=3"], ["beta?=3"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_key_and_value(arguments, refused):
    with pytest.raises(ConfigurationError) as caught:
        checked_command_line(arguments, "train", load)
    problems = [str(problem) for problem in caught.value.problems]
    assert len(problems) == len(refused), problems
    for problem, key in zip(sorted(problems), sorted(refused), strict=True):
        assert problem.startswith(f"{key}: "), problems


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method.learning_rate=1"], "did you mean method.reward_fit.learning_rate or method.rl.learning_rate?"),
        (["method.rl=ppo"], "is chosen with method/rl=ppo; method/rl has exact, grpo, ppo, reinforce, rloo"),
        (["-m", "method=dpo,rlhf", "method.rl.steps=0"], "keys of method: beta, policy_fit (with method=dpo)"),
        (["-m", "beta=interval(0.1,1)"], "an interval needs search.num_trials=N"),
        (["env=nope"], "unknown option; env has gap, no_gap"),
    ],
)
def test_a_message_says_what_to_do_and_nothing_changes(arguments, message, tmp_path):
    output = run("train", *arguments, cwd=tmp_path, code=2)
    assert message in output
    assert len(output.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


def imported(*command, cwd, code=0):
    """The modules that a command imports."""
    output = run_afresh(*command, cwd=cwd, code=code, env={"PYTHONPROFILEIMPORTTIME": "1"})
    found = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert "hydra" in found
    return found


SLOW_TO_IMPORT = {"torch", "numpy", "pandas", "scipy", "matplotlib", "jinja2", "tqdm"}


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        *((script, arguments) for script in ("train", "plot") for arguments in (["--help"], ["nope=3"])),
        *(("train", arguments) for arguments in (["--hydra-help"], ["--info", "config"])),
    ],
)
def test_help_and_bad_keys_import_nothing_that_takes_long(script, arguments, tmp_path):
    assert not SLOW_TO_IMPORT & imported(script, *arguments, cwd=tmp_path, code=2 if arguments == ["nope=3"] else 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job"],
        ["env.complexty_factor=3", "beta=-1"],
        ["-m", "env=gap,nope", "beta=1,0"],
        ["-m", "experiment=gap_vs_no_gap", "dry_run=true"],
    ],
)
def test_what_trains_nothing_imports_nothing_that_takes_long(arguments, tmp_path):
    code = 0 if arguments[0] == "--cfg" or "dry_run=true" in arguments else 2
    assert not SLOW_TO_IMPORT & imported("train", *arguments, cwd=tmp_path, code=code)


def test_what_has_nothing_to_do_imports_nothing_slow(trained):
    """Conditions that are finished and studies that do not exist are answered for without torch and the like."""
    assert not SLOW_TO_IMPORT & imported("train", "method=dpo", *TINY, cwd=trained)
    assert not SLOW_TO_IMPORT & imported("train", "-m", "method=dpo", "env=gap,no_gap", *TINY, cwd=trained)
    assert not SLOW_TO_IMPORT & imported("plot", "study=nope", cwd=trained, code=2)


def test_a_failing_run_says_so_and_keeps_earlier_results(tmp_path):
    arguments = ["method=dpo", *TINY]
    run("train", *arguments, cwd=tmp_path)
    (folder,) = folders(tmp_path / "outputs" / "default").values()
    (folder / "weights.pt").unlink()
    (folder / "weights.pt").mkdir()  # which no file can replace
    before = (folder / "results.csv").read_bytes()
    assert "weights.pt is a folder" in run("train", *arguments, "force=true", cwd=tmp_path, code=1)
    assert (folder / "results.csv").read_bytes() == before
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["error"]["type"] == "IsADirectoryError"
    assert "Traceback" in status["error"]["traceback"]
    assert "Traceback" in (folder / "log.txt").read_text()
    assert not list(folder.glob(".*")), "nothing half-written is left behind"


def test_a_key_that_one_of_the_methods_lacks_is_refused(tmp_path):
    output = run("train", "-m", "method=rlhf,dpo", "method.rl.steps=10", *TINY, cwd=tmp_path, code=2)
    assert "method.rl.steps=10: unknown key; keys of method: beta, policy_fit (with method=dpo)" in output
    assert not (tmp_path / "outputs").exists()


def test_a_user_file_with_a_shipped_name_is_refused(tmp_path):
    """Hydra reads the shipped one in its place."""
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "gap.yaml").write_text("complexity_factor: 3\n")
    output = run("train", "--config-dir", "mine", "env=gap", "dry_run=true", cwd=tmp_path, code=2)
    assert "--config-dir=env/gap.yaml" in output


def test_a_study_that_changes_while_it_is_read_is_refused(tmp_path):
    output = run("train", "method=dpo", *TINY, "study='${now:%f}'", cwd=tmp_path, code=1)
    assert "was checked" in output
    assert not list(tmp_path.glob("outputs/*/*/results.csv"))


def test_user_files_that_are_no_configuration_are_refused(tmp_path):
    (tmp_path / "env").mkdir()
    bad = {"tabs": "a:\n\t- b", "twice": "n_pairs: 10\nn_pairs: 20", "scalar": "3", "loop": "defaults: [loop]\n"}
    for name, text in bad.items():
        (tmp_path / "env" / f"{name}.yaml").write_text(text)
        output = run("train", "--config-dir", ".", f"env={name}", cwd=tmp_path, code=2)
        assert len(output.splitlines()) == 2, output
    (tmp_path / "env" / "nothing.yaml").write_text("")
    assert "complexity_factor" not in run("train", "--config-dir", ".", "env=nothing", "--cfg", "job", cwd=tmp_path)


def test_an_own_method_is_one_python_and_one_yaml_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from alignsim.methods.dpo import DPO\n"
        "@dataclass(frozen=True)\n"
        "class Slow(DPO):\n"
        "    patience_of_a_saint: int = 3\n"
    )
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "slow.yaml").write_text("_target_: mine.Slow\npatience_of_a_saint: 4\n")
    path = {"PYTHONPATH": str(tmp_path)}
    arguments = ["--config-dir", "conf", "method=slow", *TINY[:-2], "method.policy_fit.steps=20"]
    run("train", *arguments, cwd=tmp_path, env=path)
    assert list(folders(tmp_path / "outputs" / "default")) == ["slow-gap"]
    output = run("train", *arguments, "method.lrr=3", "method.patience_of_a_saint=x", cwd=tmp_path, env=path, code=2)
    assert "method.lrr=3: unknown key; keys of method: beta, patience_of_a_saint, policy_fit" in output
    assert "method.patience_of_a_saint=x: must be a whole number" in output


def test_a_text_may_have_several_lines(tmp_path):
    (tmp_path / "noted.py").write_text(
        "from pydantic.dataclasses import dataclass\nfrom alignsim.config.schema import STRICT\n"
        "from alignsim.methods.dpo import DPO\n\n\n@dataclass(frozen=True, config=STRICT)\n"
        'class Noted(DPO):\n    note: str = ""\n'
    )
    (tmp_path / "my_conf" / "method").mkdir(parents=True)
    (tmp_path / "my_conf" / "method" / "noted.yaml").write_text("_target_: noted.Noted\nnote: |\n  one,\n  two\n")
    for count in ("seeds.count=2", "seeds.count=3"):
        arguments = ["--config-dir", "my_conf", "-m", "method=noted,dpo", *TINY[1:], count]
        run("train", *arguments, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert "noted" in run("plot", cwd=tmp_path)
    summary = pd.read_csv(tmp_path / "outputs" / "default" / "summary.csv")
    assert set(summary.method) >= {"noted", "dpo"}
    assert set(summary.seeds) == {3}


def test_a_study_may_have_any_plain_name(tmp_path):
    run("train", "method=dpo", "study=Größe 1, ü", *TINY, cwd=tmp_path)
    run("plot", "study=Größe 1, ü", cwd=tmp_path)
    assert (tmp_path / "outputs" / "Größe 1, ü" / "summary.csv").exists()


@pytest.fixture
def only_dependencies(tmp_path):
    """A folder of links to all that is installed, but for alignsim, what makes it importable, and Hydra's plug-ins."""
    folder = tmp_path / "dependencies"
    folder.mkdir()
    for installed in reversed([Path(path) for path in sys.path if path.endswith("site-packages")]):
        for path in installed.iterdir():
            if not path.name.startswith(("alignsim", "__editable__", "hydra_plugins")) and path.suffix != ".pth":
                (folder / path.name).unlink(missing_ok=True)
                (folder / path.name).symlink_to(path)
    return folder


def test_a_checkout_that_is_not_installed_trains(only_dependencies, tmp_path):
    script = [sys.executable, "-S", ROOT / "scripts" / "train.py", "-m", "method=dpo", "env=gap,no_gap", *TINY]
    env = environment({"PYTHONPATH": str(only_dependencies)})
    subprocess.run([*script, "threads=1"], cwd=tmp_path, env=env, check=True)
    for folder in folders(tmp_path / "outputs" / "default").values():
        status = json.loads((folder / "status.json").read_text())
        assert status["state"] == "finished"
        assert status["versions"]["alignsim"] == VERSION


def test_the_configuration_is_found_when_installed_from_a_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "site")
    shown = subprocess.run(
        [sys.executable, "-c", "from alignsim.cli.main import train; train()", "--cfg", "job", "env=no_gap"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "complexity_factor: 1.0" in shown.stdout
    assert (tmp_path / "site" / "alignsim" / "py.typed").exists()
