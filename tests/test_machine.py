"""What a run takes of the machine, in real processes."""

import os
import shutil
import subprocess
import sys

import pytest

SAYS = """
import torch
from alignsim.machine import prepare
note = prepare({device!r}, {threads})
print(torch.get_num_threads(), note, flush=True)
input()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that prepares itself and waits, among those that share a folder for locks."""
    started = []

    def begin(threads=None, device="cpu", on=None, **more):
        code = [sys.executable, "-c", SAYS.format(threads=threads, device=device)]
        env = {**os.environ, "TMPDIR": str(tmp_path), **more}
        code = ["taskset", "-c", str(on), *code] if on is not None else code
        process = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        started.append(process)
        threads, _, note = process.stdout.readline().partition(" ")
        return process, int(threads), note.strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.skipif(CORES < 2, reason="one core has one thread in any case")
def test_the_first_training_has_all_cores_and_one_beside_it_a_single_thread(start):
    first, threads, note = start()
    assert (threads, note) == (CORES, "")
    second, threads, note = start()
    assert threads == 1
    assert "another training has the cores" in note
    _, threads, note = start(threads=2)
    assert (threads, note) == (2, "")
    _, threads, note = start(OMP_NUM_THREADS="1")
    assert (threads, note) == (1, ""), "it wanted no more"
    first.kill()
    first.wait()
    second.kill()
    _, threads, note = start()
    assert (threads, note) == (CORES, ""), "a process that was killed holds nothing"


@pytest.mark.skipif(CORES < 2 or not shutil.which("taskset"), reason="needs two cores and taskset")
def test_trainings_on_other_cores_are_not_in_the_way(start):
    mine, other = sorted(os.sched_getaffinity(0))[:2]
    assert start(on=mine)[1:] == (1, "")
    assert start(on=other)[1:] == (1, "")
    assert start()[1:] == (CORES, "")
