"""What a run leaves: one folder for each condition, every file written to the side and renamed when complete."""

from __future__ import annotations

import csv
import json
import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignsim.config.problems import ConfigurationError, Problem

if TYPE_CHECKING:
    import pandas as pd

RESULTS, HISTORY, STATUS, CONFIG, WEIGHTS = (
    "results.csv",
    "history.csv",
    "status.json",
    "config.yaml",
    "weights.pt",
)


def write_whole(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Fill every file beside its place, then put all in place: readers see each file whole or not at all.

    Args:
        files: for each path the function that fills the file it is given. An error in any of them leaves all the
            files in place as they were.
    """
    aside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, write in files.items():
            write(aside[path])
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a folder")
        for path in files:
            aside[path].replace(path)
    finally:
        for left in aside.values():
            left.unlink(missing_ok=True)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys, in order.

    >>> flatten({"env": {"n_pairs": 4000}, "beta": 0.5})
    {'env.n_pairs': 4000, 'beta': 0.5}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class RunFolder:
    """The folder of one condition, `outputs/<study>/<method>-<env>-<hash8>/`.

    `status.json` says running, finished or failed; the other files are written when the run has finished. A run that
    fails or is stopped leaves the files and the status of an earlier, finished one as they were.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier: str | None = None
        self._status: dict[str, Any] = {}

    def start(self, device: str) -> None:
        """Mark the run as running."""
        self.path.mkdir(parents=True, exist_ok=True)
        status = self.path / STATUS
        if status.exists():
            earlier = status.read_text(encoding="utf-8")
            self._earlier = earlier if '"state": "finished"' in earlier else None
        packages = {name: version(name) for name in ("alignsim", "torch", "numpy")}
        self._status = {
            "state": "running",
            "started": _now(),
            "ended": None,
            "error": None,
            "versions": {**packages, "python": platform.python_version()},
            "device": device,
        }
        write_whole({status: self._write_status})

    def finish(
        self, config: Mapping[str, Any], results: pd.DataFrame, history: pd.DataFrame, weights: Mapping[str, Any]
    ) -> None:
        """Write everything and mark the run as finished."""
        import torch
        from omegaconf import OmegaConf

        self._status |= {"state": "finished", "ended": _now()}
        write_whole(
            {
                self.path / WEIGHTS: lambda path: torch.save(weights, path),
                self.path / HISTORY: lambda path: history.to_csv(path, index=False),
                self.path / CONFIG: lambda path: OmegaConf.save(OmegaConf.create(dict(config)), path),
                self.path / RESULTS: lambda path: results.to_csv(path, index=False),
                self.path / STATUS: self._write_status,
            }
        )

    def fail(self, error: BaseException) -> None:
        """Mark the run as failed and keep the error, unless an earlier, finished run stands here."""
        if self._earlier is not None:
            earlier = self._earlier
            write_whole({self.path / STATUS: lambda path: path.write_text(earlier, encoding="utf-8")})
            return
        message = {
            "type": type(error).__name__,
            "message": str(error) or "interrupted",
            "traceback": traceback.format_exc(),
        }
        self._status |= {"state": "failed", "ended": _now(), "error": message}
        write_whole({self.path / STATUS: self._write_status})

    def would_lose(self, seeds: Sequence[int]) -> list[int]:
        """The seeds with finished results that a run of these seeds would replace by none."""
        return sorted(set(self._finished_rows()) - set(seeds))

    def mean_regret(self, seeds: Sequence[int]) -> float:
        """Mean regret of these seeds in the finished results.

        Raises:
            ConfigurationError: some of them are not there.
        """
        rows = self._finished_rows()
        missing = [seed for seed in seeds if seed not in rows]
        if missing:
            message = (
                f"{self.path} holds seeds {min(rows)} to {max(rows)}, some of which this run would replace by none;"
                " train them too, or give this run a study=NAME of its own"
            )
            raise ConfigurationError([Problem("seeds", f"{seeds[0]} to {seeds[-1]}", message)])
        return sum(float(rows[seed]["regret"]) for seed in seeds) / len(seeds)

    def _finished_rows(self) -> dict[int, dict[str, str]]:
        """The rows of finished results by seed; none where there are no such results or they cannot be read."""
        try:
            state = json.loads((self.path / STATUS).read_text(encoding="utf-8"))["state"]
            with (self.path / RESULTS).open(encoding="utf-8", newline="") as file:
                return {int(row["seed"]): row for row in csv.DictReader(file)} if state == "finished" else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_status(self, path: Path) -> None:
        path.write_text(json.dumps(self._status, indent=2) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
