"""How a run shows itself on a terminal: a bar for each stage while it runs, one line when it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from tqdm import tqdm

from alignsim.methods.base import Monitor
from alignsim.models.policy import PolicyModel


class TerminalProgress(Monitor):
    """A tqdm bar on stderr where that is a terminal, and a line on stdout for each finished stage anywhere."""

    def start(self, phase: str, steps: int) -> None:
        """Open the bar of a stage."""
        self._step, self._began = 0, time.perf_counter()
        self._latest: dict[str, str] = {}
        self._bar = tqdm(total=steps, desc=f"  {phase}", leave=False, disable=None, dynamic_ncols=True)

    def record(
        self, phase: str, step: int, measures: Mapping[str, torch.Tensor], policy: PolicyModel | None = None
    ) -> None:
        """Advance the bar to `step` and show the latest measures, mean over seeds."""
        self._latest |= {name: f"{float(values.nanmean()):.3f}" for name, values in measures.items()}
        self._bar.set_postfix(self._latest, refresh=False)
        self._bar.update(step - self._step)
        self._step = step

    def finish(self, phase: str, step: int) -> None:
        """Close the bar and leave a line behind."""
        self._bar.close()
        seconds = time.perf_counter() - self._began
        measures = "  ".join(f"{name} {value}" for name, value in self._latest.items())
        print(f"  {phase}: {step} steps in {seconds:.1f} s  {measures}", flush=True)
