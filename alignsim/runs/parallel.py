"""Chunks of seeds trained at once, each in a process of one thread, which sends events to the process that started it.

Processes of one thread lose nothing to threads that wait for each other. What is trained is not known here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from alignsim._lazy import torch

#: What a process emits: a name and plain values.
Event = tuple[Any, ...]

#: Trains a chunk of seeds and emits how it goes.
Train = Callable[[Sequence[int], Callable[[Event], None]], None]

#: How processes are made: a copied one needs no imports, but elsewhere than on Linux that is not safe.
CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


class LostProcessError(RuntimeError):
    """A process ended and did not say why, as one does that was killed."""


class _StoppedError(KeyboardInterrupt):
    """The process that started this one wants it to end, or is no more."""


def train_at_once(chunks: Sequence[Sequence[int]], train: Train, on_event: Callable[[int, Event], None]) -> None:
    """Train chunks of seeds at once, each in a process of its own.

    Where one fails, or this process is stopped, the others are stopped as if by Ctrl-C, so that they save what they
    have; then the error of the first is raised here.

    Args:
        chunks: the seeds of each.
        train: what a process does; it stores its results itself.
        on_event: gets, in this process, the number of a chunk and each event that it emits.
    """
    processes: dict[Connection, tuple[int, BaseProcess]] = {}
    try:
        with _signals_later():
            for number, seeds in enumerate(chunks):
                ours, theirs = CONTEXT.Pipe(duplex=False)
                process = CONTEXT.Process(target=_work, args=(train, seeds, theirs, os.getpid()), daemon=True)
                process.start()
                theirs.close()
                processes[ours] = number, process
        _listen(processes, on_event)
    except BaseException:
        _stop(processes, on_event)
        raise


def _listen(processes: dict[Connection, tuple[int, BaseProcess]], on_event: Callable[[int, Event], None]) -> None:
    """Hand on what the processes emit until all have ended; an error of one is raised."""
    while processes:
        for ready in wait(list(processes)):
            assert isinstance(ready, Connection)
            number, process = processes[ready]
            try:
                name, *values = ready.recv()
            except (EOFError, OSError):
                del processes[ready]
                process.join()
                raise LostProcessError(f"a process that trained was lost (exit code {process.exitcode})") from None
            if name == "end":
                del processes[ready]
                process.join()
            elif name == "error":
                del processes[ready]
                process.join()
                error, text = values
                raise error from _RemoteError(f"\n{text}")
            else:
                on_event(number, (name, *values))


def _stop(processes: dict[Connection, tuple[int, BaseProcess]], on_event: Callable[[int, Event], None]) -> None:
    """Let the processes that still train save what they have, and end; being stopped once more kills them."""
    for _, process in processes.values():
        process.terminate()
    try:
        while processes:
            with contextlib.suppress(Exception):  # the first error is the one to report
                _listen(processes, on_event)
    except BaseException:
        for _, process in processes.values():
            process.kill()
        raise


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Meanwhile Ctrl-C and SIGTERM wait: a process that is just being started is to have its own answer to them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(train: Train, seeds: Sequence[int], connection: Connection, parent: int) -> None:
    """What a process does: train, emit events, and say how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; who started this one decides
    signal.signal(signal.SIGTERM, _stopped)
    _end_with_parent(parent)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    torch.set_num_threads(1)

    def emit(event: Event) -> None:
        if hasattr(os, "getppid") and os.getppid() != parent:
            raise _StoppedError
        connection.send(event)

    end: Event = ("end",)
    try:
        train(seeds, emit)
    except _StoppedError:
        pass
    except Exception as error:
        end = ("error", _portable(error), "".join(traceback.format_exception(error)))
    with contextlib.suppress(OSError):
        connection.send(end)


def _stopped(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already
    raise _StoppedError


def _end_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the one that started it is killed; its work goes on from its checkpoint."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


class _RemoteError(Exception):
    """The traceback of an error in another process."""


def _portable(error: Exception) -> Exception:
    """The error as it can be sent to another process: one of another type with the same words where it cannot."""
    try:
        sent = pickle.loads(pickle.dumps(error))
        if type(sent) is type(error) and str(sent) == str(error):
            return error
    except Exception:  # whatever an exception of the user's does when it is pickled
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")
