"""Runs that are killed, stopped, doubled, short of disk, or find their files damaged."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.commands import TINY, only_folder, run, run_afresh, start, start_afresh

#: Two chunks of two stages each, saved at every opportunity; some seconds of training.
LONG = [
    *("method=rlhf", *TINY[:-2], "device=cpu", "seeds.count=4", "seeds.per_stack=2", "checkpoint_every=0"),
    *("method.*_fit.steps=300", "method.*_fit.patience=1000", "method.rl.steps=500"),
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder that the long command leaves when nobody interferes."""
    cwd = tmp_path_factory.mktemp("unbroken")
    run("train", *LONG, cwd=cwd)
    return only_folder(cwd)


def assert_same(folder, unbroken, set_aside="?"):
    for name in ("results.csv", "history.csv"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()
    names = sorted(path.name for path in folder.iterdir() if set_aside not in path.name)
    assert names == sorted(path.name for path in unbroken.iterdir())


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def checkpoints(cwd):
    return list(Path(cwd).glob("outputs/default/*/unfinished/checkpoint-*.pt"))


def statuses(cwd):
    return list(Path(cwd).glob("outputs/default/*/status.json"))


def kill_at_random_moments(cwd, kills, rng, threads):
    """Kill the long command some time after it has begun to train, again and again while it is not finished."""
    arguments = [*LONG, f"threads={threads}"]
    killed = 0
    while killed < kills and not list(cwd.glob("outputs/default/*/results.csv")):
        before = tuple(status.stat().st_mtime for status in statuses(cwd))
        process = start("train", *arguments, cwd=cwd)
        wait_for(lambda before=before: tuple(s.stat().st_mtime for s in statuses(cwd)) != before, process)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.communicate()
        killed += 1
    run("train", *arguments, cwd=cwd)
    return killed


@pytest.mark.slow  # each change of a file and many moments are tried there, too
@pytest.mark.parametrize("threads", [1, 2])
def test_killed_at_random_the_bytes_are_the_same(threads, unbroken, tmp_path):
    """The same command again gives the results of a run that was never killed."""
    assert kill_at_random_moments(tmp_path, 5, random.Random(1), threads) >= 3
    assert_same(only_folder(tmp_path), unbroken)


@pytest.mark.slow
def test_killed_at_many_moments_the_bytes_are_the_same(unbroken, tmp_path):
    """The same command again gives the results of a run that was never killed."""
    for seed in range(4):
        cwd = tmp_path / str(seed)
        cwd.mkdir()
        assert kill_at_random_moments(cwd, 12, random.Random(seed), 1 + seed % 2) >= 3
        assert_same(only_folder(cwd), unbroken)


@pytest.mark.slow
@pytest.mark.skipif(start is start_afresh, reason="needs copies of a process")
def test_killed_at_each_change_of_a_file(tmp_path):
    """The same command again gives the folder of a run that was never killed."""
    arguments = ["method=dpo", *TINY]
    (tmp_path / "unbroken").mkdir()
    run("train", *arguments, cwd=tmp_path / "unbroken")
    change, code = 0, -signal.SIGKILL
    while code:
        change += 1
        cwd = tmp_path / str(change)
        cwd.mkdir()
        killed = start("train", *arguments, cwd=cwd, env={"DIE_AT": str(change)})
        output, _ = killed.communicate()
        code = killed.returncode
        assert code in (0, -signal.SIGKILL), output
        run("train", *arguments, cwd=cwd)
        assert_same(only_folder(cwd), only_folder(tmp_path / "unbroken"))
    assert change > 20


def test_intact_chunks_and_checkpoints_are_used(unbroken, tmp_path):
    """Damaged ones are not."""
    process = start("train", *LONG, cwd=tmp_path)
    wait_for(lambda: {path.name for path in checkpoints(tmp_path)} == {"checkpoint-2-3.pt"}, process)
    process.kill()
    process.communicate()
    told = run("train", *LONG, "dry_run=true", cwd=tmp_path)
    assert "partial" in told
    assert "2 of 4 seeds exist; to train: seeds 2, 3; seeds 2, 3 go on from a checkpoint" in told
    for damage in ("garbage", "cut", "none"):
        cwd = tmp_path / damage
        shutil.copytree(tmp_path / "outputs", cwd / "outputs")
        unfinished = only_folder(cwd) / "unfinished"
        if damage != "none":
            for path in (unfinished / "checkpoint-2-3.pt", unfinished / "seeds-0-1" / "results.csv"):
                content = path.read_bytes()
                path.write_bytes(b"\x00\xffgarbage" * 9 if damage == "garbage" else content[: len(content) // 2])
        output = run("train", *LONG, cwd=cwd)
        assert ("seeds 0, 1" in output) == (damage != "none")
        assert_same(only_folder(cwd), unbroken)


def heed_ctrl_c():
    """A shell's background jobs, and so their tests, would ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("stop", "threads"),
    [
        (signal.SIGINT, 1),
        (signal.SIGTERM, 2),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(stop, threads, unbroken, tmp_path):
    arguments = [*LONG, "checkpoint_every=1000", f"threads={threads}"]
    process = start_afresh("train", *arguments, cwd=tmp_path, preexec_fn=heed_ctrl_c, start_new_session=True)
    log = tmp_path / "outputs" / "default"
    wait_for(lambda: any("reward_model: 300" in path.read_text() for path in log.glob("*/log.txt")), process)
    time.sleep(0.2)  # within the next stage
    os.killpg(process.pid, stop)  # as a terminal and a cluster do: all its processes get it
    output, _ = process.communicate(timeout=20)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[stop], output
    assert "stopped; what is finished is kept, and the same command goes on from here" in output
    assert "Traceback" not in output
    assert "kept: " in output
    assert checkpoints(tmp_path), "saved when it was stopped, not when the next save was due"
    assert "go on from step " in run("train", *LONG, "dry_run=true", cwd=tmp_path)
    assert "of them before it was stopped" in run("train", *LONG, cwd=tmp_path)
    assert_same(only_folder(tmp_path), unbroken)


def processes_of(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_training_processes_end_with_the_command(unbroken, tmp_path):
    """A lost one is reported."""
    arguments = [*LONG, "threads=2"]
    process = start("train", *arguments, cwd=tmp_path)
    wait_for(lambda: len(checkpoints(tmp_path)) == 2, process)
    workers = processes_of(process)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "failed: LostProcessError: a process that trained was lost (exit code -9)" in output
    assert "kept: " in output
    assert "Traceback" not in output
    process = start("train", *arguments, cwd=tmp_path)
    wait_for(lambda: len(processes_of(process)) == 2, process)
    workers = processes_of(process)
    process.kill()
    process.communicate()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert "go on from" in run("train", *LONG, "dry_run=true", cwd=tmp_path)
    assert "of them before it was stopped" in run("train", *LONG, cwd=tmp_path), "with another number of processes, too"
    assert_same(only_folder(tmp_path), unbroken)


def test_an_error_in_one_process_stops_the_others(tmp_path):
    """And is reported as it was raised."""
    (tmp_path / "odd.py").write_text(
        "from pydantic.dataclasses import dataclass\nfrom alignsim.config.schema import STRICT\n"
        "from alignsim.methods.dpo import DPO\n\n\n@dataclass(frozen=True, config=STRICT)\nclass Odd(DPO):\n"
        "    def loss(self, policy, pairs, beta):\n"
        "        if 2 in policy.env.seeds:\n            raise ArithmeticError('no such number')\n"
        "        return super().loss(policy, pairs, beta)\n"
    )
    arguments = ["method=dpo", "method._target_=odd.Odd", *TINY, "seeds.count=4", "threads=2"]
    arguments += ["method.*_fit.steps=100000", "method.*_fit.patience=100000"]
    output = run("train", *arguments, cwd=tmp_path, code=1, env={"PYTHONPATH": str(tmp_path)})
    assert "failed: ArithmeticError: no such number" in output
    assert "kept: 0 of 4" not in output
    log = (only_folder(tmp_path) / "log.txt").read_text()
    assert "in loss" in log, "where it happened is in the log"


def test_two_at_once_train_a_condition_once(unbroken, tmp_path):
    first = start("train", *LONG, cwd=tmp_path)
    wait_for(lambda: checkpoints(tmp_path), first)
    assert "busy" in run("train", *LONG, "dry_run=true", cwd=tmp_path)
    second = run("train", *LONG, cwd=tmp_path)
    assert f"process {first.pid} on " in second
    assert "is training it: waiting for it" in second
    assert "skipped: another process has finished it" in second
    assert first.communicate()[0].count("rl: ") == 2
    assert first.returncode == 0
    assert_same(only_folder(tmp_path), unbroken)


def test_two_sweeps_at_once_share_the_work(tmp_path):
    arguments = ["-m", "method=rlhf", *TINY, "method.rl.steps=300", "env=gap,no_gap", "beta=0.5,0.6"]
    both = [start("train", *arguments, cwd=tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(output.count("rl: 300 steps") for output in outputs) == 4, "each condition once"
    for output in outputs:
        assert "4 conditions: " in output
        assert "failed" not in output


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path):
    """What existed before stays."""
    arguments = ["method=dpo", *TINY]
    run("train", *arguments, cwd=tmp_path)
    folder = only_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".pt")}
    output = run_afresh("train", *arguments, "seeds.count=4", cwd=tmp_path, code=1, preexec_fn=limited)
    assert "failed: OSError: [Errno 27] File too large" in output
    assert {name: (folder / name).read_bytes() for name in before} == before
    run("train", *arguments, "seeds.count=4", cwd=tmp_path)
    assert list(pd.read_csv(folder / "results.csv").seed) == [0, 1, 2, 3]


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a small disk; skipped where only root may."""
    places = []

    def mount(place, options):
        place.mkdir(parents=True, exist_ok=True)
        mounting = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(mounting, capture_output=True, check=False).returncode:
            pytest.skip("mounting needs rights")
        places.append(place)

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_fails_one_condition_and_the_sweep_goes_on(mounted, tmp_path):
    arguments = ["-m", "method=dpo", *TINY, "env=gap,no_gap"]
    run("train", *arguments, cwd=tmp_path)
    full = only_gap(tmp_path)
    (full / "results.csv").unlink()
    shutil.rmtree(tmp_path / "outputs" / "default" / full.name.replace("gap", "no_gap"), ignore_errors=True)
    mounted(full, "size=16k")
    output = run("train", *arguments, "beta=0.7,0.5", cwd=tmp_path, code=1)
    assert "failed: OSError: [Errno 28] No space left on device" in output
    assert "4 conditions: 1 failed, 2 finished, 1 skipped" in output


def only_gap(cwd):
    return next(path for path in (cwd / "outputs" / "default").iterdir() if path.name.startswith("dpo-gap-"))


def test_a_read_only_folder_is_named(mounted, tmp_path):
    """Its finished results can still be read."""
    arguments = ["method=dpo", *TINY]
    run("train", *arguments, cwd=tmp_path)
    mounted(tmp_path / "disk", "size=10m")
    shutil.copytree(tmp_path / "outputs", tmp_path / "disk" / "outputs")
    subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
    here = ["output_dir=disk/outputs"]
    assert "finished before" in run("train", *arguments, *here, cwd=tmp_path)
    output = run("train", *arguments, *here, "seeds.count=3", cwd=tmp_path, code=1)
    assert "Read-only file system" in output
    assert len(output.splitlines()) <= 3


def test_damaged_files_are_never_read_as_results(unbroken, tmp_path):
    def damaged(name, content):
        cwd = tmp_path / f"{name}{len(content)}"
        shutil.copytree(unbroken.parent.parent, cwd / "outputs")
        (only_folder(cwd) / name).write_bytes(content)
        return cwd

    results = (unbroken / "results.csv").read_bytes()
    for content in (b"", results[:-200], results[: len(results) // 3], os.urandom(3000), b"\x00" * 500):
        cwd = damaged("results.csv", content)
        told = run("train", *LONG, "dry_run=true", cwd=cwd)
        assert "results.csv is damaged" in told
        assert "finished " not in told
    run("train", *LONG, cwd=cwd)
    assert_same(only_folder(cwd), unbroken, ".damaged-")
    odd = (b'{"state": "failed"}', b'{"state": "failed", "training": "x"}', b'{"state": "failed", "error": null}')
    for content in (b"", b"{", os.urandom(300), b"[1, 2]", *odd):
        cwd = damaged("status.json", content)
        assert "finished" in run("train", *LONG, "dry_run=true", cwd=cwd)
        (only_folder(cwd) / "results.csv").unlink()
        told = run("train", *LONG, "dry_run=true", cwd=cwd)
        assert ("failed" if content in (odd[0], odd[2]) else "new") in told


def test_damaged_results_are_set_aside_and_said(tmp_path):
    arguments = ["method=dpo", *TINY[1:]]
    run("train", *arguments, "seeds.count=3", cwd=tmp_path)
    folder = only_folder(tmp_path)
    rows = (folder / "results.csv").read_bytes()
    (folder / "results.csv").write_bytes(rows + b"x")
    output = run("train", *arguments, "seeds.count=1", cwd=tmp_path)
    assert "results.csv is damaged (the last line is cut short): it is set aside" in output
    for name in ("results.csv", "history.csv", "weights.pt"):
        assert len(list(folder.glob(f"{name}.damaged-*"))) == 1
    assert (next(folder.glob("results.csv.damaged-*"))).read_bytes() == rows + b"x"


def test_a_forced_run_takes_nothing_over_from_one_that_was_not(unbroken, tmp_path):
    shutil.copytree(unbroken.parent.parent, tmp_path / "outputs")
    folder = only_folder(tmp_path)
    (folder / "unfinished" / "seeds-0-3").mkdir(parents=True)
    shutil.copy(folder / "results.csv", folder / "unfinished" / "seeds-0-3")
    (folder / "status.json").write_text("damaged")
    told = run("train", *LONG, "force=true", "dry_run=true", cwd=tmp_path)
    assert "to train: seeds 0 to 3" in told


@pytest.mark.parametrize("written", ["running", "finished"])
def test_a_run_killed_after_its_results_were_complete_is_closed(written, tmp_path):
    arguments = ["method=dpo", *TINY]
    run("train", *arguments, cwd=tmp_path)
    folder = only_folder(tmp_path)
    names, status = sorted(folder.iterdir()), folder / "status.json"
    status.write_text(status.read_text().replace('"finished"', f'"{written}"'))
    (folder / "unfinished" / "seeds-0-1").mkdir(parents=True)
    (folder / ".aside-0").mkdir()
    assert "finished before" in run("train", *arguments, cwd=tmp_path)
    assert json.loads(status.read_text())["state"] == "finished"
    assert sorted(folder.iterdir()) == names


def test_seeds_lost_from_weights_and_curves_are_named(tmp_path):
    """Those that damaged files no longer hold."""
    arguments = ["method=dpo", *TINY]
    run("train", *arguments, cwd=tmp_path)
    folder = only_folder(tmp_path)
    (folder / "weights.pt").write_bytes(b"garbage")
    (folder / "history.csv").write_bytes(b"a,b\n1,2\n")
    output = run("train", *arguments, "seeds.count=3", cwd=tmp_path)
    assert "weights.pt is damaged, its seeds are left out of it" in output
    assert "history.csv is damaged, its seeds are left out of it" in output
    assert list(pd.read_csv(folder / "results.csv").seed) == [0, 1, 2]
    assert set(pd.read_csv(folder / "history.csv").seed) == {2}


def test_a_forced_run_replaces_results_at_its_end(unbroken, tmp_path):
    """The old ones stay until the new ones are complete."""
    shutil.copytree(unbroken.parent.parent, tmp_path / "outputs")
    folder = only_folder(tmp_path)
    with (folder / "results.csv").open("a") as file:
        file.write((folder / "results.csv").read_text().splitlines()[-1].replace(",3,", ",9,", 1) + "\n")
    old = (folder / "results.csv").read_bytes()
    process = start("train", *LONG, "force=true", cwd=tmp_path)
    wait_for(lambda: (folder / "unfinished" / "seeds-0-1").exists(), process)
    process.kill()
    process.communicate()
    assert (folder / "results.csv").read_bytes() == old
    assert json.loads((folder / "status.json").read_text())["state"] == "running"
    assert "2 of 4 seeds exist" in run("train", *LONG, "force=true", "dry_run=true", cwd=tmp_path)
    output = run("train", *LONG, "force=true", cwd=tmp_path)
    assert output.count("rl: ") == 1, "it goes on with the forced run"
    new = pd.read_csv(folder / "results.csv")
    assert list(new.seed) == [0, 1, 2, 3, 9], "seeds that were not asked for are left alone"
    assert "new" in run("train", *LONG, "force=true", "dry_run=true", cwd=tmp_path), "and the next one starts afresh"
