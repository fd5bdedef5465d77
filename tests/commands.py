"""The command line as a user meets it: real processes."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = [
    *("seeds.count=2", "env.n_pairs=120", "env.output_dim=4", "evaluation.prompts=20", "evaluation.pairs=100"),
    *("method.*_fit.steps=40", "device=cpu"),
]


def command(script, *arguments):
    return [sys.executable, ROOT / "scripts" / f"{script}.py", *arguments]


def environment(more=None):
    return os.environ | {"OMP_NUM_THREADS": "1"} | (more or {})


def start_afresh(script, *arguments, cwd, env=None, **more):
    """Start a script in `cwd` in a new Python, its output and errors in one pipe."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | more
    return subprocess.Popen(command(script, *arguments), cwd=cwd, env=environment(env), **settings)


def run_afresh(script, *arguments, cwd, code=0, env=None, **more):
    """Run a script in `cwd` in a new Python; returns its output and errors together."""
    return _ended(start_afresh(script, *arguments, cwd=cwd, env=env, **more), code)


class Copy:
    """A command in a copy of a process that has imported all, with what tests need of `Popen`."""

    def __init__(self, script, *arguments, cwd, env=None):
        _, path, *arguments = map(str, command(script, *arguments))
        self.output = tempfile.NamedTemporaryFile()  # noqa: SIM115  closed in communicate
        command_line = {"script": path, "arguments": arguments, "cwd": str(cwd), "env": environment(env)}
        self.pid = _ask(command_line | {"output": self.output.name})
        self.returncode = None

    def poll(self, how="poll"):
        if self.returncode is None:
            self.returncode = _ask([how, self.pid])
        return self.returncode

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout=None):
        """Its output, once it has ended: tests/forks.py ends what takes too long."""
        self.poll("wait")
        with self.output:
            return self.output.read().decode(), None


#: Start a script in `cwd`: for what does not depend on imports, a copy.
start = Copy if hasattr(os, "fork") else start_afresh


def run(script, *arguments, cwd, code=0, env=None):
    """Run a script in `cwd`; returns its output and errors together."""
    return _ended(start(script, *arguments, cwd=cwd, env=env), code)


def _ended(process, code):
    output, _ = process.communicate(timeout=180)
    assert process.returncode == code, output
    assert "Traceback" not in output, output
    return output


@cache
def _copied():
    """The process that is copied: tests/forks.py."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "tests.forks"], cwd=ROOT, env=environment(), **pipes)
    atexit.register(process.communicate)
    return process


def _ask(question):
    pipes = _copied()
    pipes.stdin.write(json.dumps(question) + "\n")
    pipes.stdin.flush()
    return json.loads(pipes.stdout.readline())


def folders(study):
    """The folders of a study's conditions, by method and environment."""
    return {p.name.rpartition("-")[0]: p for p in study.iterdir() if p.is_dir() and not p.name.startswith(".")}


def only_folder(cwd, study="default"):
    """The folder of the only condition of a study."""
    (folder,) = folders(Path(cwd) / "outputs" / study).values()
    return folder
