"""The folder of one condition: which of its seeds it holds, and every step of a run that adds to them.

What is trained and when is decided in `alignsim.runs.job`; how files are written and read stands beside this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from alignsim.config.version import package_versions
from alignsim.runs.storage.atomic import (
    CorruptFileError,
    clear_leftovers,
    leftovers,
    write_atomically,
    write_folder_atomically,
)
from alignsim.runs.storage.lock import TrainingLock
from alignsim.runs.storage.state import RunState, Status
from alignsim.runs.storage.table import Table, join_by_seed, parse_results, read_frame
from alignsim.runs.storage.tensors import CheckpointFile, read_weights, save_tensors, stacked
from alignsim.runs.storage.versions import CODE, CONDITION, origin_mismatch

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

RESULTS, HISTORY, STATUS, CONFIG, WEIGHTS, LOG = (
    "results.csv",
    "history.csv",
    "status.json",
    "config.yaml",
    "weights.pt",
    "log.txt",
)

#: Where finished chunks of seeds and the checkpoints of the next ones wait until all seeds of a run are finished.
UNFINISHED = "unfinished"


class RunFolder:
    """The folder of one condition, `outputs/<study>/<method>-<env>-<hash8>/`.

    `results.csv` holds the seeds that are finished, whatever happens later; `status.json` describes the last run
    that had something to train. While it trains, its finished chunks of seeds and the checkpoints of those in training
    wait in `unfinished/`.

    Args:
        path: the folder.
        condition: the digest of the condition.
        code: the stamp of today's code, see `code_stamp`.
    """

    def __init__(self, path: Path, condition: str = "", code: str = "") -> None:
        self.path, self.condition, self.code = path, condition, code
        self._status: Status | None = None
        self._saved: dict[tuple[int, ...], str] = {}

    @property
    def lock(self) -> TrainingLock:
        """The lock that a run holds while it trains; outside the folder, which can so be moved or removed."""
        return TrainingLock(self.path.parent / ".locks" / f"{self.path.name}.lock")

    def status(self) -> Status | None:
        """What `status.json` says; None where it is missing or not what was written."""
        try:
            return TypeAdapter(Status).validate_json((self.path / STATUS).read_bytes())
        except (OSError, ValueError):
            return None

    def state_since(self, moment: float) -> RunState | None:
        """The state of the last run, where it has written it after a moment (seconds since the epoch)."""
        try:
            if (self.path / STATUS).stat().st_mtime < moment:
                return None
        except OSError:
            return None
        status = self.status()
        return status.state if status else None

    def finished(self) -> Table:
        """The rows of finished seeds; none where there are none.

        Raises:
            CorruptFileError: `results.csv` is not whole.
        """
        try:
            return parse_results((self.path / RESULTS).read_bytes())
        except FileNotFoundError:
            return Table([], {})

    def chunks(self) -> dict[Path, list[int]]:
        """The seeds of each finished chunk of an unfinished run, by the folder of the chunk."""
        chunks = {}
        for path in sorted((self.path / UNFINISHED).glob("seeds-*")):
            with contextlib.suppress(CorruptFileError, OSError):
                table = parse_results((path / RESULTS).read_bytes())
                if origin_mismatch(table, self.condition, self.code) is None:
                    chunks[path] = sorted(table.rows)
        return chunks

    def start(self, device: str, force: bool, command: str) -> None:
        """Mark the run as running, and clear away what can be of no more use."""
        self.path.mkdir(parents=True, exist_ok=True)
        before = self.status()
        if (force and (before is None or not before.force)) or (before is not None and before.state == "finished"):
            shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        for folder in (self.path, self.path / UNFINISHED):
            clear_leftovers(folder)
        try:
            self.finished()
        except CorruptFileError:  # kept for whoever wants to mend them by hand
            for name in (RESULTS, HISTORY, WEIGHTS):
                with contextlib.suppress(FileNotFoundError):
                    (self.path / name).replace(self.path / f"{name}.damaged-{datetime.now():%Y%m%d-%H%M%S}")
        packages = package_versions("alignsim", "torch", "numpy")
        self._status = Status(
            state="running",
            started=_now(),
            force=force,
            command=command,
            process=f"process {os.getpid()} on {socket.gethostname()}",
            versions={"results": self.code, **packages, "python": platform.python_version()},
            device=device,
        )
        self._write_status("running")
        (self.path / UNFINISHED).mkdir(exist_ok=True)

    @property
    def is_open(self) -> bool:
        """Whether the last run has not ended, as far as it has said."""
        status = self.status()
        return status is not None and status.state == "running"

    @property
    def is_settled(self) -> bool:
        """Whether the last run has ended and nothing is left that only its training needed."""
        left = (self.path / UNFINISHED).exists() or leftovers(self.path)
        return not self.is_open and not left

    def settle(self) -> None:
        """Close a run that was killed after its results were complete, and clear away what it needed no more.

        What a failed or forced run has stored stays. The lock must be held.
        """
        status = self.status()
        if self.is_settled or status is None or status.state == "failed":
            return
        if status.state == "running":
            rows = set(self.finished().rows)
            begun = any((self.path / UNFINISHED).glob("checkpoint-*")) or any(
                set(seeds) - rows for seeds in self.chunks().values()
            )
            if status.force or begun:
                return
            self._status = status
            self._write_status("finished", ended=_now(), training=[])
        self._clear_away()

    def start_chunks(self, chunks: Sequence[Sequence[int]]) -> None:
        """Say which chunks of seeds the run trains."""
        self._write_status("running", training=[list(seeds) for seeds in chunks])

    def checkpoint_path(self, seeds: Sequence[int]) -> Path:
        """Where the training of a chunk is saved."""
        return self.path / UNFINISHED / f"checkpoint-{seeds[0]}-{seeds[-1]}.pt"

    def checkpoint(self, seeds: Sequence[int]) -> CheckpointFile:
        """Where the state of a chunk in training is saved to and loaded from."""
        return CheckpointFile(self.checkpoint_path(seeds), {"code": self.code, "seeds": list(seeds)})

    def note_saved(self, seeds: Sequence[int], at: str) -> None:
        """Note how far, in words, the training of a chunk had come when it was last saved."""
        self._saved[tuple(seeds)] = at

    def store_chunk(self, results: pd.DataFrame, history: pd.DataFrame, weights: Mapping[str, Any]) -> None:
        """Store the results of a chunk of seeds in a folder that appears whole; its checkpoint is removed."""
        seeds, stamps = list(results["seed"]), {CONDITION: self.condition, CODE: self.code}
        folder = self.path / UNFINISHED / f"seeds-{seeds[0]}-{seeds[-1]}"
        write_folder_atomically(
            folder,
            {
                self.path / RESULTS: lambda path: results.assign(**stamps).to_csv(path, index=False),
                self.path / HISTORY: lambda path: history.to_csv(path, index=False),
                self.path / WEIGHTS: lambda path: save_tensors({"seeds": seeds, **weights}, path),
            },
        )
        self.checkpoint_path(seeds).unlink(missing_ok=True)

    def finish(self, config: Mapping[str, Any]) -> list[str]:
        """Join the finished chunks and the earlier seeds, and mark the run as finished.

        Returns:
            A warning for each file of earlier seeds that is damaged and so left out.
        """
        from omegaconf import OmegaConf

        sources, warnings = [*self.chunks()], list[str]()
        if (old := self.finished()).rows and origin_mismatch(old, self.condition, self.code) is None:
            sources.insert(0, self.path)

        def intact(name: str, load: Callable[[Path], T]) -> list[T]:
            parts = []
            for source in sources:
                try:
                    parts.append(load(source / name))
                except (OSError, CorruptFileError) as error:
                    warnings.append(f"{source / name} is damaged, its seeds are left out of it ({error})")
            return parts

        results = join_by_seed([read_frame(source / RESULTS) for source in sources])
        history = join_by_seed(intact(HISTORY, read_frame))
        weights: dict[str, Any] = {}
        for newer in intact(WEIGHTS, read_weights):
            weights = stacked(weights, newer)
        finished = self._changed("finished", ended=_now(), training=[])
        write_atomically(
            {
                self.path / WEIGHTS: lambda path: save_tensors(weights, path),
                self.path / HISTORY: lambda path: history.to_csv(path, index=False),
                self.path / CONFIG: lambda path: OmegaConf.save(OmegaConf.create(dict(config)), path),
                self.path / RESULTS: lambda path: results.to_csv(path, index=False),
                self.path / STATUS: lambda path: path.write_bytes(finished),
            }
        )
        self._clear_away()
        return warnings

    def _clear_away(self) -> None:
        """Remove what a finished run needs no more."""
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        clear_leftovers(self.path)

    def fail(self, error: BaseException) -> None:
        """Mark the run as failed and keep the error; silent where not even that can be written."""
        stopped = not isinstance(error, Exception)
        details = {
            "type": type(error).__name__,
            "message": str(error) or ("stopped" if stopped else ""),
            "traceback": "".join(traceback.format_exception(error)),
        }
        at = " and ".join(dict.fromkeys(self._saved.values())) or None
        with contextlib.suppress(OSError):
            self._write_status("failed", ended=_now(), error=details, stopped=stopped, checkpoint=at)

    def _write_status(self, state: RunState, **changes: Any) -> None:
        content = self._changed(state, **changes)
        write_atomically({self.path / STATUS: lambda path: path.write_bytes(content)})

    def _changed(self, state: RunState, **changes: Any) -> bytes:
        """The status of the run after some changes, as it is written."""
        assert self._status is not None, "the run has not started"
        self._status = dataclasses.replace(self._status, state=state, **changes)
        return (json.dumps(dataclasses.asdict(self._status), indent=2) + "\n").encode()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
