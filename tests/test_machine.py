"""What a run takes of the machine, in real processes."""

import os
import subprocess
import sys

import pytest

SAYS = """
import torch
from alignsim.machine import prepare
note = prepare({threads})
print(torch.get_num_threads(), note, flush=True)
input()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that prepares itself and waits, among those that share a folder for locks."""
    started = []

    def begin(threads=None):
        code = [sys.executable, "-c", SAYS.format(threads=threads)]
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        started.append(process)
        threads, _, note = process.stdout.readline().partition(" ")
        return process, int(threads), note.strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_the_first_training_has_all_cores_and_one_beside_it_a_single_thread(start):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    first, threads, note = start()
    assert (threads, note) == (cores, "")
    second, threads, note = start()
    assert threads == 1
    assert "another training has the cores" in note
    _, threads, note = start(threads=2)
    assert (threads, note) == (2, "")
    first.kill()
    first.wait()
    second.kill()
    _, threads, note = start()
    assert (threads, note) == (cores, ""), "a process that was killed holds nothing"
