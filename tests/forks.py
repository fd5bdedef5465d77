"""A process that has imported what the commands import, and is copied for each command that a test runs.

A copy has its own folder, environment, files, output and exit code, as a process started afresh; it only has no
imports to wait for, which take longer than what it does. Each line on stdin is JSON and has one answer on stdout: a
command its process id, and ["wait" or "poll", id] the exit code, null where it still runs.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = [
    *(
        "alignsim.cli.main",
        "alignsim.cli.train",
        "alignsim.runs.condition",
        "alignsim.runs.parallel",
        "alignsim.runs.progress",
    ),
    *(
        "alignsim.envs.simplified",
        "alignsim.report.draw",
        "alignsim.report.page.render",
        "alignsim.report.figures.charts",
        "torch",
    ),
    *("torch.fx.experimental.symbolic_shapes", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
]

#: What Python tells of changes to files, see `sys.addaudithook`.
CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}

#: A command that takes longer is killed.
SECONDS = 180


def next_copy() -> dict[str, Any] | None:
    """Copy this process for each command; returns the command in its copy, and nothing when there are no more."""
    for line in sys.stdin:
        asked: Any = json.loads(line)
        if isinstance(asked, list):
            how, child = asked
            ended, status = os.waitpid(child, os.WNOHANG if how == "poll" else 0)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif (answer := os.fork()) == 0:
            return asked
        print(json.dumps(answer), flush=True)
    return None


def die_at(change: int) -> None:
    """Kill this process when it is about to make its n-th change to a file or folder in the one it works in."""
    changes, here = 0, Path.cwd()

    def count(event: str, given: tuple[Any, ...]) -> None:
        nonlocal changes
        if event not in CHANGES or isinstance(given[0], int):  # a pipe is open already
            return
        written = event != "open" or given[2] & (os.O_WRONLY | os.O_RDWR)
        if written and (here / os.fsdecode(given[0])).is_relative_to(here):
            changes += 1
            if changes == change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def become(command: dict[str, Any]) -> None:
    """Run a script with its arguments, in its folder and environment."""
    signal.alarm(SECONDS)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, flags, numbers in ((os.devnull, os.O_RDONLY, [0]), (command["output"], os.O_WRONLY, [1, 2])):
        file = os.open(path, flags)
        for number in numbers:
            os.dup2(file, number)
        os.close(file)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["env"])
    more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(command["script"]).parent), *filter(None, more)]
    if "DIE_AT" in os.environ:
        die_at(int(os.environ["DIE_AT"]))
    sys.argv = [command["script"], *command["arguments"]]
    runpy.run_path(command["script"], run_name="__main__")


def end(code: object) -> NoReturn:
    """End this process as Python does, but without taking all that was imported to pieces."""
    threading._shutdown()
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    if copied := next_copy():
        try:
            become(copied)
            end(0)
        except SystemExit as stop:
            end(stop.code)
        except BaseException:
            traceback.print_exc()
            end(1)
