"""How a run shows itself: a bar for each stage on a terminal, a line for each finished one there and in its log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from alignsim.lazy import torch
from alignsim.methods.base import Monitor
from alignsim.models.base import StackedModel


class StageProgress(Monitor):
    """A tqdm bar on stderr where that is a terminal, and a line for each finished stage.

    Args:
        tell: gets the lines.
        bar: False for a job beside others, whose bars would overwrite each other.
    """

    def __init__(self, tell: Callable[[str], object], bar: bool = True) -> None:
        self._tell, self._bars = tell, bar

    def start(self, phase: str, steps: int, done: int) -> None:
        """Open the bar of a stage."""
        self._step, self._done, self._began = done, done, time.perf_counter()
        self._latest: dict[str, str] = {}
        disable = None if self._bars else True  # None: where stderr is no terminal
        self._bar = tqdm(total=steps, initial=done, desc=f"  {phase}", leave=False, disable=disable, dynamic_ncols=True)

    def record(self, phase: str, step: int, measures: Mapping[str, torch.Tensor], model: StackedModel) -> None:
        """Advance the bar to `step` and show the last of the measures, mean over seeds."""
        self._latest |= {name: f"{float(values.nanmean()):.3f}" for name, values in measures.items()}
        self._bar.set_postfix(dict(list(self._latest.items())[-1:]), refresh=False)
        self._bar.update(step - self._step)
        self._step = step

    def finish(self, phase: str, step: int, diverged_at: torch.Tensor) -> None:
        """Close the bar and leave a line behind."""
        self._bar.close()
        diverged = int((diverged_at > 0).sum())
        parts = [f"{phase}: {step} steps in {time.perf_counter() - self._began:.1f} s"]
        if self._done:
            parts = [f"{phase}: {step} steps, {self._done} of them before it was stopped"]
        parts += [f"{name} {value}" for name, value in self._latest.items()]
        self._tell("  ".join(parts + [f"{diverged} of {len(diverged_at)} seeds diverged"] * bool(diverged)))


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
