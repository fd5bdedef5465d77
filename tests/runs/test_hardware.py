"""What a run takes of the machine, in real processes."""

import os
import shutil
import subprocess
import sys

import pytest

SAYS = """
import torch
from alignsim.runs.hardware import prepare, processes_at_once
prepare("cpu", {threads})
print(torch.get_num_threads(), processes_at_once("cpu", {threads}))
"""


def said(threads=None, on=None, **more):
    """Threads of a process, and how many it would train seeds in."""
    code = [sys.executable, "-c", SAYS.format(threads=threads)]
    code = ["taskset", "-c", str(on), *code] if on is not None else code
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | more
    output = subprocess.run(code, capture_output=True, text=True, env=env, check=True).stdout
    return tuple(map(int, output.split()))


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_each_core_gets_a_process_of_one_thread():
    assert said() == (1, CORES)
    assert said(threads=3) == (3, 3)
    assert said(OMP_NUM_THREADS="1") == (1, 1), "it wanted no more"


@pytest.mark.skipif(CORES < 2 or not shutil.which("taskset"), reason="needs two cores and taskset")
def test_only_the_cores_that_a_command_may_use_count():
    assert said(on=min(os.sched_getaffinity(0))) == (1, 1)
