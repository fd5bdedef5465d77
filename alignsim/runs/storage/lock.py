"""The right to train a condition or to write into a study: of one process at a time, taken back from one that dies.

A condition is locked by `alignsim.runs.job`; a study by whoever registers claims in it or draws it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def study_lock(study: Path) -> Iterator[None]:
    """Held by whoever writes beside the conditions of a study, whose folder must be there; others wait and say so."""
    (study / ".locks").mkdir(exist_ok=True)
    lock = FileLock(study / ".locks" / "study.lock")
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        print(f"another command is writing into {study}: waiting for it", flush=True)
        held = lock.acquire()
    with held:
        yield


class TrainingLock:
    """The lock of one condition, and the name of who holds it.

    Args:
        path: its file; the name lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._owner_path = path, path.with_suffix(".owner")

    def take(self, wait: bool) -> FileLock:
        """The lock, to be held in a `with` block.

        Args:
            wait: until whoever holds it is done; else entering the block raises `filelock.Timeout`.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._path, timeout=-1 if wait else 0)

    def is_taken(self) -> bool:
        """Whether another process holds it."""
        if not self._path.exists():
            return False
        try:
            with self.take(wait=False):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def sign(self) -> None:
        """Say that this process holds it, where that can be written."""
        with contextlib.suppress(OSError):
            self._owner_path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")

    def owner(self) -> str:
        """Who holds it, in words."""
        try:
            return self._owner_path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "another process"
