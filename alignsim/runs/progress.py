"""The progress of a run: a bar for each stage on a terminal, a line for each finished stage there and in the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from alignsim._lazy import torch
from alignsim.methods.base import Monitor
from alignsim.models.base import StackedModel


class ProgressEmitter(Monitor):
    """Emits how training goes as plain values, which can be sent to another process: the events of `StageProgress`.

    Args:
        emit: gets a name and values.
    """

    def __init__(self, emit: Callable[[tuple[Any, ...]], None]) -> None:
        self._emit = emit

    def start(self, stage: str, steps: int, done: int) -> None:
        """`start`, stage, steps at most, steps done before."""
        self._emit(("start", stage, steps, done))

    def record(self, stage: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """`record`, stage, step, sums and numbers of seeds of each measure, over seeds where it is a number."""
        sums = {}
        for name, values in measures.items():
            sums[name] = float(values.nansum()), int((~values.isnan()).sum())
        self._emit(("record", stage, step, sums))

    def finish(self, stage: str, step: int, diverged_at: torch.Tensor) -> None:
        """`finish`, stage, step, seeds that diverged, seeds."""
        self._emit(("finish", stage, step, int((diverged_at > 0).sum()), len(diverged_at)))


class StageProgress:
    """A tqdm bar on stderr where that is a terminal, and a line for each finished stage of chunks trained at once.

    Args:
        log: gets the lines.
        chunks: how many are trained at once.
        bar: False for a job beside others, whose bars would overwrite each other.
    """

    def __init__(self, log: Callable[[str], object], chunks: int = 1, bar: bool = True) -> None:
        self._log, self._chunks, self._bars = log, chunks, bar
        self._stages: dict[str, _Stage] = {}
        self._bar: tqdm[Any] | None = None
        self._began = time.perf_counter()

    def on_event(self, number: int, event: tuple[Any, ...]) -> None:
        """Show an event of the `ProgressEmitter` of the chunk with this number."""
        name, stage_name, *values = event
        stage = self._stages.setdefault(stage_name, _Stage(stage_name))
        getattr(stage, name)(number, *values)  # start, record or finish
        self._show()

    def _show(self) -> None:
        """Move the bar to where the first unfinished stage is; log those that are finished."""
        for stage in list(self._stages.values()):
            if self._bar is None:
                disable = None if self._bars else True  # None: where stderr is no terminal
                self._bar = tqdm(
                    total=stage.steps, desc=f"  {stage.name}", leave=False, disable=disable, dynamic_ncols=True
                )
            self._bar.set_postfix(dict(list(stage.means().items())[-1:]), refresh=False)
            self._bar.update(stage.step(self._chunks) - self._bar.n)
            if len(stage.finished) < self._chunks:
                return
            self._bar.close()
            self._log(stage.line(time.perf_counter() - self._began))
            self._bar, self._began = None, time.perf_counter()
            del self._stages[stage.name]


class _Stage:
    """A stage of several chunks, by the number of the chunk."""

    def __init__(self, name: str) -> None:
        self.name, self.steps = name, 0
        self.done: dict[int, int] = {}
        self.at: dict[int, int] = {}
        self.latest: dict[int, dict[str, tuple[float, int]]] = {}
        self.finished: dict[int, tuple[int, int]] = {}

    def start(self, chunk: int, steps: int, done: int) -> None:
        self.steps = steps
        self.done[chunk] = self.at[chunk] = done

    def record(self, chunk: int, step: int, measures: dict[str, tuple[float, int]]) -> None:
        self.at[chunk] = step
        self.latest[chunk] = self.latest.get(chunk, {}) | measures

    def finish(self, chunk: int, step: int, diverged: int, seeds: int) -> None:
        self.at[chunk] = step
        self.finished[chunk] = diverged, seeds

    def step(self, chunks: int) -> int:
        """How far the chunks are, on average; those that have stopped improving wait at the end."""
        ends = (self.steps if chunk in self.finished else step for chunk, step in self.at.items())
        return sum(ends) // chunks

    def means(self) -> dict[str, str]:
        """The latest measures, mean over the seeds of all chunks, in their order."""
        means = {}
        for name in dict.fromkeys(name for measures in self.latest.values() for name in measures):
            parts = [measures[name] for measures in self.latest.values() if name in measures]
            seeds = sum(count for _, count in parts)
            means[name] = f"{sum(part for part, _ in parts) / seeds:.3f}" if seeds else "nan"
        return means

    def line(self, seconds: float) -> str:
        """The line that remains of the stage."""
        step, done = max(self.at.values()), min(self.done.values())
        parts = [f"{self.name}: {step} steps in {seconds:.1f} s"]
        if any(self.done.values()):
            parts = [f"{self.name}: {step} steps, {done or 'some'} of them before it was stopped"]
        parts += [f"{name} {value}" for name, value in self.means().items()]
        diverged, seeds = (sum(each) for each in zip(*self.finished.values(), strict=True))
        return "  ".join(parts + [f"{diverged} of {seeds} seeds diverged"] * bool(diverged))


@contextlib.contextmanager
def run_log(path: Path, show: bool) -> Iterator[logging.Logger]:
    """A logger that writes to the log of a run and, with `show`, to the screen too, but for the details.

    What cannot be written to the file is lost in silence: a full disk must not stop a run because of its log.
    """
    logger = logging.Logger("alignsim", logging.DEBUG)  # of this run alone: nobody's settings reach it
    handlers: list[logging.Handler] = []
    with contextlib.suppress(OSError):
        handlers.append(_QuietFileHandler(path, encoding="utf-8"))
        handlers[0].setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    if show:
        screen = _ScreenHandler(sys.stdout)
        screen.setFormatter(logging.Formatter("  %(message)s"))
        screen.setLevel(logging.INFO)
        screen.addFilter(lambda record: record.exc_info is None)
        handlers.append(screen)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield logger
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()


class _ScreenHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic from Python 3.11 on
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (its name in logging)
        raise  # whoever read our output has gone: that ends the command


class _QuietFileHandler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (its name in logging)
        pass
