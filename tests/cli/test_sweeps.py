"""Sweeps through the real command line: nothing twice, failures visible, launchers and searches."""

import fcntl
import importlib.util
import json
import os
import pty
import re
import struct
import termios
import time

import numpy as np
import pandas as pd
import pytest

from alignsim.runs.storage.versions import RESULTS_VERSION
from tests.commands import TINY, folders, only_folder, run, run_afresh, start_afresh

SWEEP = ["-m", "method=dpo", "env=gap,no_gap", *TINY]

#: A method that fails, or is slow, or whose second seed diverges, as an environment variable says.
MINE = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from alignsim.methods.dpo import DPO

@dataclass(frozen=True)
class Mine(DPO):
    way: str = "works"

    def train(self, task):
        if self.way in os.environ.get("BROKEN", ""):
            raise RuntimeError("it is broken\\nin two lines")
        return super().train(task)
"""


@pytest.fixture
def mine(tmp_path):
    """Arguments and environment with which `method=mine` is the method above, in the folder of the test."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "own" / "method").mkdir(parents=True)
    (tmp_path / "own" / "method" / "mine.yaml").write_text("_target_: mine.Mine\nway: works\n")
    return ["--config-dir", "own", "method=mine", *TINY], {"PYTHONPATH": str(tmp_path)}


def state_of(folder):
    return json.loads((folder / "status.json").read_text())["state"]


def test_what_is_finished_takes_one_line_and_is_left_alone(tmp_path):
    run("train", *SWEEP, cwd=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    output = run_afresh("train", *SWEEP, cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    told = [line for line in output.splitlines() if line.startswith("finished before")]
    assert len(told) == 2
    assert all("outputs/default/dpo-" in line for line in told)
    assert "2 conditions: 2 skipped" in output
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert not {"torch", "pandas", "scipy", "matplotlib"} & imported
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    single = run("train", "method=dpo", "env=gap", *TINY, cwd=tmp_path)
    assert len(single.splitlines()) == 1
    assert "finished before   dpo · gap" in single


def test_more_seeds_train_only_the_new_ones(tmp_path):
    arguments = ["method=dpo", "env=gap", *TINY[1:]]
    run("train", *arguments, "seeds.count=2", cwd=tmp_path)
    folder = only_folder(tmp_path)
    first = pd.read_csv(folder / "results.csv", dtype=str)
    output = run("train", *arguments, "seeds.count=5", "seeds.per_stack=2", cwd=tmp_path)
    assert "2 of 5 seeds exist; to train: seeds 2 to 4" in output
    run("train", *arguments, "seeds.first=7", "seeds.count=1", cwd=tmp_path)
    both = pd.read_csv(folder / "results.csv", dtype=str)
    assert both.head(2).equals(first), "the first seeds' rows are the very same"
    assert list(both.seed) == ["0", "1", "2", "3", "4", "7"]
    run("train", *arguments, "seeds.count=5", "study=at_once", cwd=tmp_path)
    at_once = only_folder(tmp_path, "at_once")
    for name in ("results.csv", "history.csv"):
        ours, theirs = pd.read_csv(folder / name), pd.read_csv(at_once / name)
        ours = ours[ours.seed < 5].reset_index(drop=True)
        numbers = theirs.select_dtypes("number").columns
        assert np.allclose(ours[numbers], theirs[numbers], rtol=1e-5, atol=1e-6, equal_nan=True)
    import torch

    weights = torch.load(folder / "weights.pt", weights_only=True)
    whole = torch.load(at_once / "weights.pt", weights_only=True)
    assert weights["seeds"] == [0, 1, 2, 3, 4, 7]
    for name, p in weights["policy"].items():
        assert torch.allclose(p[:5], whole["policy"][name], atol=1e-6)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(mine, tmp_path):
    arguments, env = mine
    run("train", *arguments, "env=gap", cwd=tmp_path, env=env)
    run("train", *arguments, "env=no_gap", "seeds.count=1", cwd=tmp_path, env=env)
    run("train", *arguments, "env=gap", "beta=0.7", cwd=tmp_path, env=env | {"BROKEN": "works"}, code=1)
    before = sorted(str(path) for path in (tmp_path / "outputs").rglob("*"))
    output = run("train", "-m", *arguments, "env=gap,no_gap", "beta=0.5,0.7", "dry_run=true", cwd=tmp_path, env=env)
    told = dict(re.findall(r"^(\w+) +(mine · \w+ +beta=\S+)", output, flags=re.MULTILINE))
    assert set(told) == {"finished", "partial", "failed", "new"}
    assert told["finished"].split() == ["mine", "·", "gap", "beta=0.5"]
    assert "1 of 2 seeds exist; to train: seeds 0, 1" not in output
    assert "1 of 2 seeds exist; to train: seeds 1" in output
    assert "failed before: RuntimeError: it is broken" in output
    assert "dry run of 4 conditions: 1 failed, 1 finished, 1 new, 1 partial; nothing was done" in output
    assert sorted(str(path) for path in (tmp_path / "outputs").rglob("*")) == before
    assert "torch" not in run("train", "--cfg", "job", "dry_run=true", cwd=tmp_path)


def test_a_condition_that_fails_stops_no_other(mine, tmp_path):
    """It is reported at the end, and the same command tries it again."""
    arguments, env = mine
    arguments = ["-m", *arguments, "beta=0.5,0.6,0.7", "method.way=works,fails"]
    output = run("train", *arguments, cwd=tmp_path, env=env | {"BROKEN": "fails"}, code=1)
    assert "6 conditions: 3 failed, 3 finished" in output
    table = output[output.index("6 conditions: 3 failed") :]
    assert table.count("RuntimeError: it is broken in two lines") == 3
    assert re.search(r"\[4 of 6 · 2 finished · 1 failed · about .* left\]", output)
    states = {folder: state_of(folder) for folder in (tmp_path / "outputs" / "default").glob("mine-*")}
    assert sorted(states.values()) == ["failed"] * 3 + ["finished"] * 3
    for folder in (folder for folder, state in states.items() if state == "failed"):
        error = json.loads((folder / "status.json").read_text())["error"]
        assert error["type"] == "RuntimeError"
        assert "raise RuntimeError" in error["traceback"]
        assert "raise RuntimeError" in (folder / "log.txt").read_text()
    output = run("train", *arguments, cwd=tmp_path, env=env)
    assert output.count("\nfinished before") == 3
    assert "6 conditions: 3 finished, 3 skipped" in output


def test_a_job_that_composes_to_another_condition_is_refused(mine, tmp_path):
    """A YAML file may be edited between the check and the job, or say another thing whenever it is read."""
    arguments, env = mine
    file = tmp_path / "own" / "method" / "mine.yaml"
    edit = f"Path({str(file)!r}).write_text('_target_: mine.Mine\\nway: edited\\n')"
    (tmp_path / "mine.py").write_text(MINE.replace("return super()", f"{edit}; return super()"))
    output = run("train", "-m", *arguments, "beta=0.5,0.6", cwd=tmp_path, env=env, code=1)
    assert "2 conditions: 1 failed, 1 finished" in output
    assert len(folders(tmp_path / "outputs" / "default")) == 1
    file.write_text("_target_: mine.Mine\nway: ${now:%f}\n")
    assert "was checked" in run("train", *arguments, "study=single", cwd=tmp_path, env=env, code=1)
    assert not (tmp_path / "outputs" / "single").exists()


def test_a_switch_stops_at_the_first_failure(mine, tmp_path):
    arguments, env = mine
    arguments = ["-m", *arguments, "beta=0.5,0.6,0.7", "fail_fast=true"]
    output = run("train", *arguments, cwd=tmp_path, env=env | {"BROKEN": "works"}, code=1)
    assert "3 conditions: 1 failed, 2 not run" in output
    assert len(folders(tmp_path / "outputs" / "default")) == 1


def test_results_of_other_code_are_not_mixed_but_named(mine, tmp_path):
    arguments, env = mine
    run("train", *arguments, cwd=tmp_path, env=env)
    folder = only_folder(tmp_path)
    rows = (folder / "results.csv").read_bytes()
    (tmp_path / "mine.py").write_text(MINE + "\n# another method now\n")
    output = run("train", *arguments, "seeds.count=3", cwd=tmp_path, env=env, code=1)
    assert re.search(
        rf"holds results of other code \({RESULTS_VERSION} mine\.py:\w{{8}}, now {RESULTS_VERSION} mine\.py:\w{{8}}\)",
        output,
    )
    assert "force=true trains them afresh and replaces them, study=NAME keeps both" in output
    assert (folder / "results.csv").read_bytes() == rows
    assert "outdated" in run("train", *arguments, "dry_run=true", cwd=tmp_path, env=env)
    run("train", *arguments, "beta=0.7", cwd=tmp_path, env=env)
    assert "conditions were trained by different versions of mine.py" in run("plot", cwd=tmp_path)
    run("train", *arguments, "force=true", "seeds.count=1", cwd=tmp_path, env=env)
    assert list(pd.read_csv(folder / "results.csv").seed) == [0], "rows of other code do not stay beside new ones"
    assert "different versions" not in run("plot", cwd=tmp_path)


def test_results_of_an_older_format_are_not_mixed_but_named(tmp_path):
    arguments = ["method=dpo", *TINY]
    run("train", *arguments, cwd=tmp_path)
    results = only_folder(tmp_path) / "results.csv"
    pd.read_csv(results, dtype=str).drop(columns="code").to_csv(results, index=False)
    assert f"holds results of version 1, this alignsim writes version {RESULTS_VERSION}" in run(
        "train", *arguments, cwd=tmp_path, code=1
    )
    output = run("plot", cwd=tmp_path, code=1)
    assert (
        f"results of version 1, this alignsim has {RESULTS_VERSION}; train it again with force=true, left out" in output
    )
    run("train", *arguments, "force=true", cwd=tmp_path)
    run("plot", cwd=tmp_path)


def test_rows_of_another_condition_are_not_mixed(tmp_path):
    """Neither are those with other measures."""
    arguments = ["-m", "method=dpo", *TINY, "beta=0.5,0.6"]
    run("train", *arguments, cwd=tmp_path)
    one, other = sorted((tmp_path / "outputs" / "default").glob("*/results.csv"))
    rows = one.read_bytes()
    one.write_bytes(other.read_bytes())
    assert "holds results of another condition" in run("train", *arguments, cwd=tmp_path, code=1)
    one.write_bytes(rows)
    pd.read_csv(one, dtype=str).drop(columns="kl").to_csv(one, index=False)
    assert "holds results of other measures (kl is missing)" in run("train", *arguments, cwd=tmp_path, code=1)


def test_jobs_may_differ_only_in_where_or_how_they_run(tmp_path):
    (tmp_path / "outputs" / "x").mkdir(parents=True)
    (tmp_path / "outputs" / "x" / ".locks").touch()
    output = run("train", "-m", "method=dpo", *TINY, "study=x,y", cwd=tmp_path, code=1)
    assert "2 conditions: 1 failed, 1 finished" in output
    assert re.search(r"failed +dpo · gap +study=x", output)
    output = run("train", "-m", "method=dpo", *TINY[1:], "study=y", "seeds.count=2,3", cwd=tmp_path)
    assert "2 conditions: 1 finished, 1 skipped" in output


def test_a_folder_that_cannot_be_read_fails_alone(tmp_path):
    arguments = ["-m", "method=dpo", *TINY]
    run("train", *arguments, "beta=0.5", cwd=tmp_path)
    results = only_folder(tmp_path) / "results.csv"
    results.unlink()
    results.mkdir()
    assert re.search(
        "failed .*beta=0.5 .*directory", run("train", *arguments, "beta=0.5,0.6", "dry_run=true", cwd=tmp_path)
    )
    output = run("train", *arguments, "beta=0.5,0.6", cwd=tmp_path, code=1)
    assert "2 conditions: 1 failed, 1 finished" in output


def test_without_a_known_optimum_no_seed_has_diverged(tmp_path):
    (tmp_path / "world.py").write_text(
        "from dataclasses import dataclass\nfrom alignsim.envs.simplified import SimplifiedEnvironment\n"
        "@dataclass(frozen=True)\nclass World(SimplifiedEnvironment):\n"
        "    def optimal_value(self, beta, prompts):\n        return None\n"
    )
    (tmp_path / "own" / "env").mkdir(parents=True)
    (tmp_path / "own" / "env" / "world.yaml").write_text("_target_: world.World\n")
    env = {"PYTHONPATH": str(tmp_path)}
    run("train", "--config-dir", "own", "env=world", "method=dpo", *TINY, cwd=tmp_path, env=env)
    output = run("plot", cwd=tmp_path)
    assert "diverged" not in output
    assert "no optimum is known, so there is no normalized value to draw" in output


def test_diverged_seeds_are_marked_counted_and_in_no_mean(tmp_path):
    run("train", "-m", "method=dpo", *TINY, "method.policy_fit.learning_rate=1e-3,1e30", cwd=tmp_path)
    tables = [pd.read_csv(path) for path in (tmp_path / "outputs" / "default").glob("*/results.csv")]
    rows = pd.concat(tables).set_index(["method.policy_fit.learning_rate", "seed"])
    assert not rows.loc[1e-3].diverged.any()
    assert rows.loc[1e30].diverged.all()
    assert (rows.loc[1e30].diverged_stage == "dpo").all()
    assert (rows.loc[1e30].diverged_step == 2).all(), "the weights explode in step 1, the next loss is not finite"
    output = run("plot", cwd=tmp_path)
    assert "2 of 2 seeds diverged (0, 1), left out of every mean" in output
    summary = pd.read_csv(tmp_path / "outputs" / "default" / "summary.csv")
    summary = summary.set_index("method.policy_fit.learning_rate")
    assert list(summary.loc[1e30, ["seeds", "diverged"]]) == [0, 2]
    assert list(summary.loc[1e-3, ["seeds", "diverged"]]) == [2, 0]
    assert np.isnan(summary.loc[1e30, "normalized_value"])


@pytest.mark.parametrize(
    ("launcher", "plugin"),
    [
        pytest.param("processes", "hydra_joblib_launcher", marks=pytest.mark.slow),
        pytest.param("slurm_local", "hydra_submitit_launcher", marks=pytest.mark.slow),
        ("ray_cluster", "hydra_ray_launcher"),
    ],
)
def test_launchers_give_the_same_results_and_report_failures(launcher, plugin, mine, tmp_path):
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed")
    arguments, env = mine
    arguments = ["-m", *arguments, "method.way=works,fails"]
    run("train", *arguments, "study=here", cwd=tmp_path, env=env)
    elsewhere = [*arguments, f"hydra/launcher={launcher}", "study=elsewhere"]
    if launcher == "processes":
        elsewhere.append("hydra.launcher.n_jobs=2")
    output = run("train", *elsewhere, cwd=tmp_path, env=env | {"BROKEN": "fails"}, code=1)
    assert "2 conditions: 1 failed, 1 finished" in output
    assert "RuntimeError: it is broken" in output
    assert re.search(r"\[2 of 2\]  (finished|failed)   mine · gap", output)
    output = run("train", *elsewhere, cwd=tmp_path, env=env)
    assert "2 conditions: 1 finished, 1 skipped" in output
    here, there = (tmp_path / "outputs" / study for study in ("here", "elsewhere"))
    for results in here.glob("*/results.csv"):
        assert results.read_bytes() == (there / results.parent.name / "results.csv").read_bytes()


def test_a_killed_worker_is_reported_and_the_rest_kept(mine, tmp_path):
    arguments, env = mine
    (tmp_path / "mine.py").write_text(MINE.replace("raise RuntimeError", "os.kill(os.getpid(), 9); raise RuntimeError"))
    launcher = ["hydra/launcher=processes", "hydra.launcher.n_jobs=2", "threads=1"]  # it trains in the worker itself
    broken = env | {"BROKEN": "fails"}
    output = run("train", "-m", *arguments, "method.way=works,fails", *launcher, cwd=tmp_path, env=broken, code=1)
    assert re.search(r"failed +mine · gap +method.way=fails +\S+ +TerminatedWorkerError", output)
    output = run("train", "-m", *arguments, "method.way=works,fails", cwd=tmp_path, env=env)
    assert "2 conditions: " in output


@pytest.mark.slow
def test_an_optuna_search_runs_and_goes_on(tmp_path):
    search = ["-m", "hydra/sweeper=optuna_search", "method=dpo", *TINY]
    search.append("method.policy_fit.learning_rate=tag(log,interval(1e-4,1e-1))")
    output = run("train", *search, "hydra.sweeper.n_trials=2", cwd=tmp_path)
    assert "2 conditions: 2 finished" in output
    assert "smallest mean regret" in output
    output = run("train", *search, "hydra.sweeper.n_trials=3", cwd=tmp_path)
    assert "3 conditions: 1 finished, 2 skipped" in output
    rates = [pd.read_csv(path) for path in (tmp_path / "outputs" / "default").glob("*/results.csv")]
    assert pd.concat(rates)["method.policy_fit.learning_rate"].between(1e-4, 1e-1).all()
    bad = ["threads=1", "method.policy_fit.learning_rate=interval(1e30,1e31)", "study=bad", "hydra.sweeper.n_trials=2"]
    output = run("train", *search[:-1], *bad, cwd=tmp_path, code=1)
    assert "the sweeper gave up" in output
    assert "smallest mean regret" not in output, "a condition whose seeds diverged is no good one"
    (tmp_path / "own" / "env").mkdir(parents=True)
    (tmp_path / "own" / "env" / "short.yaml").write_text("complexity_factor: 2.5\n")
    own = ["--config-dir", "own", *search, "env=short", "hydra.sweeper.n_trials=1", "study=short"]
    assert "1 condition: 1 finished" in run("train", *own, cwd=tmp_path), "keys that a file leaves out"
    assert "dry_run=true: cannot tell" in run("train", *search, "dry_run=true", cwd=tmp_path, code=2)
    bad = [*search[:-1], "method.policy_fit.learning_rate=interval(-1,1)"]
    assert "learning_rate=-1.0: must be greater than 0" in run("train", *bad, cwd=tmp_path, code=2)


def test_random_search_draws_the_same_for_every_method(tmp_path):
    """And every time."""
    search = [
        *("-m", "method=dpo,ipo", *TINY, "search.num_trials=30", "dry_run=true"),
        *("method.policy_fit.learning_rate=tag(log,interval(1e-4,1e-1))", "env.n_pairs=int(interval(100,103))"),
    ]
    output = run("train", *search, cwd=tmp_path)
    found = re.findall(r"(dpo|ipo) · gap +env.n_pairs=(\d+) +\S+learning_rate=(\S+)", output)
    assert len(found) == 60
    dpo, ipo = ([draw[1:] for draw in found if draw[0] == method] for method in ("dpo", "ipo"))
    assert dpo == ipo
    assert {n for n, _ in dpo} == {"100", "101", "102", "103"}
    rates = np.log10([float(rate) for _, rate in dpo])
    assert rates.min() > -4
    assert rates.max() < -1
    assert abs(np.median(rates) + 2.5) < 0.6, "uniform in the logarithm"
    few = run("train", *search, "search.num_trials=3", cwd=tmp_path)
    assert run("train", *search, "search.num_trials=3", cwd=tmp_path) == few
    assert run("train", *search, "search.num_trials=3", "search.seed=1", cwd=tmp_path) != few
    assert "search.num_trials=0: must be greater" in run("train", *search, "search.num_trials=0", cwd=tmp_path, code=2)


def test_sweeps_of_a_file_are_known_beforehand(tmp_path):
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    (tmp_path / "own" / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      method: dpo,rlhf\n      beta: 0.5,-1\n"
    )
    arguments = ["-m", "--config-dir", "own", "+sweep=mine", "dry_run=true"]
    assert "beta=-1: must be greater than 0" in run("train", *arguments, cwd=tmp_path, code=2)
    output = run("train", *arguments, "beta=0.5,0.6,0.7", cwd=tmp_path)
    assert "dry run of 6 conditions: 6 new" in output


def test_results_stay_where_the_command_was_given(tmp_path):
    run("train", "method=dpo", *TINY, "hydra.job.chdir=true", cwd=tmp_path)
    assert (only_folder(tmp_path) / "results.csv").exists()


def test_output_into_a_file_is_clean(tmp_path):
    output = run("train", "-m", "method=dpo", *TINY, "beta=0.5,0.6", cwd=tmp_path)
    assert "\r" not in output
    assert "\x1b" not in output
    assert "[1 of 2]  dpo · gap   beta=0.5" in output


def test_a_long_list_of_overrides_makes_no_long_folder_name(tmp_path):
    (tmp_path / "own" / "env").mkdir(parents=True)
    long = "x" * 200
    (tmp_path / "own" / "env" / f"{long}.yaml").write_text("complexity_factor: 2\n")
    run("train", "--config-dir", "own", f"env={long}", "method=dpo", *TINY, cwd=tmp_path)
    assert len(only_folder(tmp_path).name) < 200


def test_a_terminal_shows_bars(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = start_afresh(
        "train",
        "method=dpo",
        *TINY[:-2],
        "device=cpu",
        "method.policy_fit.steps=300",
        cwd=tmp_path,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert "it/s" in shown.decode(errors="replace")
