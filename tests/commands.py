"""The command line as a user meets it: real subprocesses."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = [
    *("seeds.count=2", "env.n_pairs=120", "env.output_dim=4", "evaluation.prompts=20", "evaluation.pairs=100"),
    *("method.supervised.steps=40", "device=cpu"),
]


def command(script, *arguments):
    return [sys.executable, ROOT / "scripts" / f"{script}.py", *arguments]


def start(script, *arguments, cwd, env=None, **more):
    """Start a script in `cwd`, its output and errors in one pipe."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | more
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    return subprocess.Popen(command(script, *arguments), cwd=cwd, env=environment, **given)


def run(script, *arguments, cwd, code=0, env=None, **more):
    """Run a script in `cwd`; returns its output and errors together."""
    output, _ = (process := start(script, *arguments, cwd=cwd, env=env, **more)).communicate(timeout=180)
    assert process.returncode == code, output
    assert "Traceback" not in output, output
    return output


def folders(study):
    """The folders of a study's conditions, by method and environment."""
    return {p.name.rpartition("-")[0]: p for p in study.iterdir() if p.is_dir() and not p.name.startswith(".")}


def only_folder(cwd, study="default"):
    """The folder of the only condition of a study."""
    (folder,) = folders(Path(cwd) / "outputs" / study).values()
    return folder
