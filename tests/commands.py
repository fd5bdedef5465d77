"""The command line as a user meets it: real processes."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = [
    *("seeds.count=2", "env.n_pairs=120", "env.output_dim=4", "evaluation.prompts=20", "evaluation.pairs=100"),
    *("method.supervised.steps=40", "device=cpu"),
]


def command(script, *arguments):
    return [sys.executable, ROOT / "scripts" / f"{script}.py", *arguments]


def environment(more=None):
    return os.environ | {"OMP_NUM_THREADS": "1"} | (more or {})


def start(script, *arguments, cwd, env=None, **more):
    """Start a script in `cwd`, its output and errors in one pipe."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | more
    return subprocess.Popen(command(script, *arguments), cwd=cwd, env=environment(env), **given)


def run_afresh(script, *arguments, cwd, code=0, env=None, **more):
    """Run a script in `cwd` in a new Python; returns its output and errors together."""
    output, _ = (process := start(script, *arguments, cwd=cwd, env=env, **more)).communicate(timeout=180)
    return _checked(output, process.returncode, code)


def run(script, *arguments, cwd, code=0, env=None):
    """Run a script in `cwd`; returns its output and errors together.

    In a copy of a process that has imported all: for what does not depend on imports.
    """
    if not hasattr(os, "fork"):
        return run_afresh(script, *arguments, cwd=cwd, code=code, env=env)
    _, path, *arguments = map(str, command(script, *arguments))
    with tempfile.NamedTemporaryFile() as output:
        told = {"script": path, "arguments": arguments, "cwd": str(cwd), "env": environment(env), "output": output.name}
        copied = _copied()
        copied.stdin.write(json.dumps(told) + "\n")
        copied.stdin.flush()
        answer = copied.stdout.readline()
        return _checked(output.read().decode(), int(answer), code)


@cache
def _copied():
    """The process that is copied: tests/forks.py."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "tests.forks"], cwd=ROOT, env=environment(), **pipes)
    atexit.register(process.communicate)
    return process


def _checked(output, returned, code):
    assert returned == code, output
    assert "Traceback" not in output, output
    return output


def folders(study):
    """The folders of a study's conditions, by method and environment."""
    return {p.name.rpartition("-")[0]: p for p in study.iterdir() if p.is_dir() and not p.name.startswith(".")}


def only_folder(cwd, study="default"):
    """The folder of the only condition of a study."""
    (folder,) = folders(Path(cwd) / "outputs" / study).values()
    return folder
