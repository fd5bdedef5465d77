"""What a condition leaves: one folder, every file in it whole, one row of `results.csv` for each finished seed.

The files and how they are kept whole are here; what is trained and when is in `alignsim.jobs`.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import inspect
import io
import json
import os
import platform
import shutil
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass

from alignsim.evaluation.measures import DIVERGED, MEASURES

if TYPE_CHECKING:
    import pandas as pd

    from alignsim.methods.base import State

T = TypeVar("T")

#: Raised by one whenever the files of a run, or what a condition means, change: older results are then never mixed
#: with newer ones.
RESULTS_VERSION = 2

RESULTS, HISTORY, STATUS, CONFIG, WEIGHTS, LOG = (
    "results.csv",
    "history.csv",
    "status.json",
    "config.yaml",
    "weights.pt",
    "log.txt",
)

#: Columns of `results.csv`: the digest of the condition that a row is of, and which code trained it, see `code_stamp`.
CONDITION, CODE = "condition", "code"

#: Where finished chunks of seeds and the checkpoint of the next one wait until all seeds of a run are finished.
UNFINISHED, CHECKPOINT = "unfinished", "checkpoint.pt"


class DamagedError(Exception):
    """A file that is not what was written: cut short, overwritten or of another kind; the text says how."""


class Table(NamedTuple):
    """The rows of a `results.csv`, as text.

    Attributes:
        columns: the names of the columns.
        rows: the cells of each seed, in the order of the columns.
    """

    columns: list[str]
    rows: dict[int, list[str]]

    def column(self, name: str) -> dict[int, str]:
        """The cell of each seed in one column."""
        place = self.columns.index(name)
        return {seed: cells[place] for seed, cells in self.rows.items()}


def parse_results(content: bytes) -> Table:
    """The rows in the bytes of a `results.csv`, of whatever version.

    Raises:
        DamagedError: they are not whole.
    """
    try:
        text = content.decode("utf-8")
        if not text.endswith("\n"):
            raise DamagedError("the last line is cut short")
        columns, *lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if missing := [name for name in ("method", "env", "seed", "regret") if name not in columns]:
            raise DamagedError(f"the column {missing[0]} is missing")
        if any(len(line) != len(columns) for line in lines):
            raise DamagedError(f"a line has not {len(columns)} columns")
        rows = {int(line[columns.index("seed")]): line for line in lines}
        for place in (columns.index(name) for name in MEASURES if name in columns):
            for line in lines:
                float(line[place] or "nan")
    except (ValueError, csv.Error) as error:
        raise DamagedError(str(error)) from error
    if len(rows) != len(lines):
        raise DamagedError("a seed has two lines")
    return Table(columns, rows)


def write_whole(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Fill every file beside its place, then put all in place: readers see each file whole or not at all.

    Args:
        files: for each path, all in one folder, the function that fills the file it is given. An error in any of them
            leaves all the files in place as they were. They are put in place in their order.
    """
    with _aside(next(iter(files)).parent) as aside:
        for path, write in files.items():
            with _named(path):
                write(aside / path.name)
                _flush(aside / path.name)
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a folder")
        for path in files:
            (aside / path.name).replace(path)
    _flush(path.parent)


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


def span(seeds: Sequence[int]) -> str:
    """Seeds in words.

    >>> span([0, 1, 2, 7, 9, 10])
    '0 to 2, 7, 9, 10'
    """
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and runs[-1][-1] == seed - 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def code_stamp(parts: Iterable[object]) -> str:
    """Which code gives a condition its meaning: the version of alignsim's results, and the files of a user's classes.

    Args:
        parts: the objects that a condition is made of: its environment, model and method.

    Returns:
        Such as `2`, or `2 mine.py:1f2e3d4c` where a class is defined in the user's `mine.py`.
    """
    files = set()
    for part in parts:
        for base in type(part).__mro__:
            package = base.__module__.partition(".")[0]
            if package != "alignsim" and package not in sys.stdlib_module_names:
                with contextlib.suppress(TypeError, OSError):  # no file, as in a notebook
                    files.add(Path(inspect.getsourcefile(base) or ""))
    stamps = sorted(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}" for path in files)
    return " ".join([str(RESULTS_VERSION), *stamps])


@pydantic_dataclass(config=ConfigDict(extra="ignore"))
class Status:
    """What `status.json` tells about the last run that had something to train.

    Attributes:
        state: of that run.
        started: when, UTC.
        ended: when, None while it is running (or was killed).
        error: type, message and traceback of what ended it, also of being stopped.
        stopped: whether it was stopped from outside (Ctrl-C, SIGTERM) and did not fail.
        training: the seeds of the chunk in training.
        checkpoint: in words, how far that had come when the run ended.
        force: whether the run trains also what had been finished.
        command: what the user typed.
        process: its number and machine.
        versions: of the results' meaning, see `code_stamp`, and of packages.
        device: trained on.
    """

    state: Literal["running", "finished", "failed"]
    started: str = ""
    ended: str | None = None
    error: dict[str, str] | None = None
    stopped: bool = False
    training: list[int] = field(default_factory=list)
    checkpoint: str | None = None
    force: bool = False
    command: str = ""
    process: str = "another process"
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True)
class Survey:
    """What is there of the seeds that a run wants.

    Attributes:
        state: `finished`; `partial`, some seeds or a checkpoint are kept; `failed` before and nothing is kept;
            `outdated`, other code trained what is there; `new`.
        finished: the wanted seeds whose rows are in `results.csv`.
        remaining: the wanted seeds that are still to be trained.
        begun: those of them that a checkpoint is of.
        note: more about it, for people.
        regret: mean over the wanted seeds where all are finished; NaN else, and where one diverged.
    """

    state: str
    finished: list[int]
    remaining: list[int]
    begun: list[int] = field(default_factory=list)
    note: str = ""
    regret: float = float("nan")


class RunFolder:
    """The folder of one condition, `outputs/<study>/<method>-<env>-<hash8>/`.

    `results.csv` holds the seeds that are finished, whatever happens later; `status.json` tells about the last run
    that had something to train. While it trains, its finished chunks of seeds and a checkpoint wait in `unfinished/`.

    Args:
        path: the folder.
        condition: the digest of the condition.
        code: the stamp of today's code, see `code_stamp`.
    """

    def __init__(self, path: Path, condition: str = "", code: str = "") -> None:
        self.path, self.condition, self.code = path, condition, code
        self._status: Status | None = None
        self._checkpoint: CheckpointFile | None = None

    @property
    def lock_path(self) -> Path:
        """The lock that whoever trains the condition holds; outside, so that the folder can be moved or removed."""
        return self.path.parent / ".locks" / f"{self.path.name}.lock"

    def status(self) -> Status | None:
        """What `status.json` says; None where it is not there or not what was written."""
        try:
            return TypeAdapter(Status).validate_json((self.path / STATUS).read_bytes())
        except (OSError, ValueError):
            return None

    def state_since(self, moment: float) -> str | None:
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
            DamagedError: `results.csv` is not whole.
        """
        try:
            return parse_results((self.path / RESULTS).read_bytes())
        except FileNotFoundError:
            return Table([], {})

    def chunks(self) -> dict[Path, list[int]]:
        """The finished chunks of a run that is not, and their seeds."""
        found = {}
        for path in sorted((self.path / UNFINISHED).glob("seeds-*")):
            with contextlib.suppress(DamagedError, OSError):
                table = parse_results((path / RESULTS).read_bytes())
                if self._stranger(table) is None:
                    found[path] = sorted(table.rows)
        return found

    def survey(self, wanted: Sequence[int], force: bool = False) -> Survey:
        """What is there of the wanted seeds. With `force` nothing is, but for a forced run that was stopped."""
        status, note = self.status(), ""
        try:
            table = self.finished()
            stranger = None if force else self._stranger(table)
        except DamagedError as error:
            table, stranger = Table([], {}), None
            note = f"{RESULTS} is damaged ({error}): it is set aside and its seeds are trained again"
        if stranger is not None:
            message = (
                f"{self.path} holds results of {stranger};"
                " force=true trains them afresh and replaces them, study=NAME keeps both"
            )
            return Survey("outdated", [], list(wanted), note=message)
        there = {} if force else table.rows
        finished = [seed for seed in wanted if seed in there]
        if len(finished) == len(wanted):
            return Survey("finished", finished, [], regret=_mean_regret(table, wanted))
        goes_on = not force if status is None else status.state != "finished" and (not force or status.force)
        chunks = self.chunks() if goes_on else {}
        kept = {seed for seeds in chunks.values() for seed in seeds}
        remaining = [seed for seed in wanted if seed not in there and seed not in kept]
        begun: list[int] = []
        failed = False
        if status is not None:
            saved = (self.path / UNFINISHED / CHECKPOINT).exists() and status.versions.get("results") == self.code
            if goes_on and saved and set(status.training) <= set(remaining):
                begun = status.training
            failed = status.state == "failed" and not status.stopped
            if failed and not note:
                told = {"type": "?", "message": ""} | (status.error or {})
                note = "failed before: {type}: {message}".format(**told).replace("\n", " ")
            elif begun and not note:
                note = f"seeds {span(begun)} go on from {status.checkpoint or 'a checkpoint'}"
        if goes_on and not note and len(chunks) < len(list((self.path / UNFINISHED).glob("seeds-*"))):
            note = "chunks that are damaged or of other code are trained again"
        state = "partial" if len(remaining) < len(wanted) or begun else "failed" if failed else "new"
        return Survey(state, finished, remaining, begun, note)

    def _stranger(self, table: Table) -> str | None:
        """Whose rows these are, where they are not of this condition and code."""
        if not table.rows:
            return None
        if CODE not in table.columns:
            return f"version 1, this alignsim writes version {RESULTS_VERSION}"
        if (codes := set(table.column(CODE).values())) != {self.code}:
            return f"other code ({', '.join(sorted(codes))}, now {self.code})"
        if CONDITION not in table.columns or set(table.column(CONDITION).values()) != {self.condition}:
            return "another condition"
        if missing := [name for name in (*MEASURES, *DIVERGED) if name not in table.columns]:
            return f"other measures ({missing[0]} is missing)"
        return None

    def start(self, device: str, force: bool, command: str) -> None:
        """Mark the run as running, and clear away what can be of no more use."""
        self.path.mkdir(parents=True, exist_ok=True)
        before = self.status()
        if (force and (before is None or not before.force)) or (before is not None and before.state == "finished"):
            shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        for folder in (self.path, self.path / UNFINISHED):
            for left in folder.glob(".aside-*"):
                shutil.rmtree(left, ignore_errors=True)
        try:
            self.finished()
        except DamagedError:  # kept for whoever wants to mend them by hand
            for name in (RESULTS, HISTORY, WEIGHTS):
                with contextlib.suppress(FileNotFoundError):
                    (self.path / name).replace(self.path / f"{name}.damaged-{datetime.now():%Y%m%d-%H%M%S}")
        packages = {name: version(name) for name in ("alignsim", "torch", "numpy")}
        self._status = Status(
            state="running",
            started=_now(),
            force=force,
            command=command,
            process=f"process {os.getpid()} on {socket.gethostname()}",
            versions={"results": self.code, **packages, "python": platform.python_version()},
            device=device,
        )
        self._write_status()
        (self.path / UNFINISHED).mkdir(exist_ok=True)

    @property
    def is_open(self) -> bool:
        """Whether the last run has not ended, as far as it has said."""
        status = self.status()
        return status is not None and status.state == "running"

    def settle(self) -> None:
        """Close a run that was killed after its results were complete; nobody else may be training."""
        status = self.status()
        if status is None or status.state != "running" or status.force:
            return
        rows = set(self.finished().rows)
        if (self.path / UNFINISHED / CHECKPOINT).exists() or any(set(c) - rows for c in self.chunks().values()):
            return
        self._status = status
        self._write_status(state="finished", ended=_now(), training=[])
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)

    def start_chunk(self, seeds: Sequence[int]) -> CheckpointFile:
        """Say which seeds are trained now; returns where their training is saved."""
        self._write_status(training=list(seeds))
        owner = {"code": self.code, "seeds": list(seeds)}
        self._checkpoint = CheckpointFile(self.path / UNFINISHED / CHECKPOINT, owner)
        return self._checkpoint

    def keep_chunk(self, results: pd.DataFrame, history: pd.DataFrame, weights: Mapping[str, Any]) -> None:
        """Keep what a chunk of seeds gave: a folder that appears whole. Its checkpoint is of no more use."""
        seeds, stamps = list(results["seed"]), {CONDITION: self.condition, CODE: self.code}
        files: dict[str, Callable[[Path], object]] = {
            RESULTS: lambda path: results.assign(**stamps).to_csv(path, index=False),
            HISTORY: lambda path: history.to_csv(path, index=False),
            WEIGHTS: lambda path: _save_tensors({"seeds": seeds, **weights}, path),
        }
        with _aside(self.path / UNFINISHED) as aside:
            for name, fill in files.items():
                with _named(self.path / name):
                    fill(aside / name)
                    _flush(aside / name)
            place = self.path / UNFINISHED / f"seeds-{seeds[0]}-{seeds[-1]}"
            shutil.rmtree(place, ignore_errors=True)  # one that was damaged
            aside.replace(place)
        _flush(place.parent)
        (place.parent / CHECKPOINT).unlink(missing_ok=True)

    def finish(self, config: Mapping[str, Any]) -> list[str]:
        """Put the finished chunks beside the seeds that were there, and mark the run as finished.

        Returns:
            What could not be kept of earlier seeds because a file is damaged, in words.
        """
        from omegaconf import OmegaConf

        sources, lost = [*self.chunks()], list[str]()
        if (old := self.finished()).rows and self._stranger(old) is None:
            sources.insert(0, self.path)

        def whole(name: str, read: Callable[[Path], T]) -> list[T]:
            found = []
            for source in sources:
                try:
                    found.append(read(source / name))
                except (OSError, DamagedError) as error:
                    lost.append(f"{source / name} is damaged, its seeds are left out of it ({error})")
            return found

        results = by_seed([_read_text(source / RESULTS) for source in sources])
        history = by_seed(whole(HISTORY, _read_text))
        weights: dict[str, Any] = {}
        for newer in whole(WEIGHTS, _read_weights):
            weights = stacked(weights, newer)
        finished = self._changed(state="finished", ended=_now(), training=[])
        write_whole(
            {
                self.path / WEIGHTS: lambda path: _save_tensors(weights, path),
                self.path / HISTORY: lambda path: history.to_csv(path, index=False),
                self.path / CONFIG: lambda path: OmegaConf.save(OmegaConf.create(dict(config)), path),
                self.path / RESULTS: lambda path: results.to_csv(path, index=False),
                self.path / STATUS: lambda path: path.write_bytes(finished),
            }
        )
        shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
        return lost

    def fail(self, error: BaseException) -> None:
        """Mark the run as failed and keep the error; silent where not even that can be written."""
        stopped = not isinstance(error, Exception)
        told = {
            "type": type(error).__name__,
            "message": str(error) or ("stopped" if stopped else ""),
            "traceback": "".join(traceback.format_exception(error)),
        }
        at = self._checkpoint.saved_at if self._checkpoint else None
        with contextlib.suppress(OSError):
            self._write_status(state="failed", ended=_now(), error=told, stopped=stopped, checkpoint=at)

    def _write_status(self, **changes: Any) -> None:
        content = self._changed(**changes)
        write_whole({self.path / STATUS: lambda path: path.write_bytes(content)})

    def _changed(self, **changes: Any) -> bytes:
        """The status of the run after some changes, as it is written."""
        assert self._status is not None, "the run has not started"
        self._status = dataclasses.replace(self._status, **changes)
        return (json.dumps(dataclasses.asdict(self._status), indent=2) + "\n").encode()


class CheckpointFile:
    """The state of a training in progress, in one file.

    Args:
        path: the file.
        owner: whose state it is; a file of another owner is not loaded.

    Attributes:
        saved_at: in words, how far the training had come when it was saved last; None while it was not.
    """

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        self._path, self._owner = path, dict(owner)
        self.saved_at: str | None = None

    def load(self) -> State | None:
        """The state that was saved last; None where there is none, or it is damaged, or another's."""
        import torch

        try:
            saved = torch.load(self._path, weights_only=True)
            if saved["owner"] != self._owner:
                return None
            self.saved_at = saved["state"]["at"]
            return cast("State", saved["state"])
        except Exception:  # whatever torch raises at a damaged file
            return None

    def save(self, state: State) -> None:
        """Replace what was saved, whole or not at all."""
        write_whole({self._path: lambda path: _save_tensors({"owner": self._owner, "state": state}, path)})
        self.saved_at = state["at"]


def _read_text(path: Path) -> pd.DataFrame:
    """A table of seeds with every cell as it was written.

    Raises:
        DamagedError: it is not one.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table["seed"].map(int)
    except (ValueError, KeyError) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    return table


def _read_weights(path: Path) -> dict[str, Any]:
    """Weights as `RunFolder.keep_chunk` has saved them.

    Raises:
        DamagedError: they are not.
    """
    import torch

    try:
        weights: dict[str, Any] = torch.load(path, weights_only=True)
        models = [model for name, model in weights.items() if name != "seeds"]
        if any(len(p) != len(weights["seeds"]) for model in models for p in model.values()):
            raise DamagedError("a parameter is not of all its seeds")
    except Exception as error:  # whatever torch raises at a damaged file
        raise DamagedError(f"{type(error).__name__}") from error
    return weights


def by_seed(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of text in one, in the order of the seeds; where two have a seed, the later one counts."""
    import pandas as pd

    taken: set[str] = set()
    kept = []
    for table in reversed(tables):
        kept.append(table[~table["seed"].isin(taken)])
        taken |= set(table["seed"])
    joined = pd.concat(kept[::-1] or [pd.DataFrame({"seed": []})], ignore_index=True)
    return joined.sort_values("seed", key=lambda seeds: seeds.map(int), kind="stable", ignore_index=True)


def stacked(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of two sets of seeds in one stack, in the order of the seeds; where both have a seed, the newer.

    Args:
        older: `seeds` and, for each model, its parameters (S, ...); may be empty.
        newer: the same of other seeds.
    """
    import torch

    if not older:
        return dict(newer)
    place = {seed: i for i, seed in enumerate([*older["seeds"], *newer["seeds"]])}  # the newer one where both have it
    seeds = sorted(place)
    order = torch.tensor([place[seed] for seed in seeds])
    models = {
        model: {name: torch.cat([older[model][name], p])[order] for name, p in parameters.items()}
        for model, parameters in newer.items()
        if model != "seeds"
    }
    return {"seeds": seeds, **models}


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the file system names the file that was to be written, not the one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _save_tensors(values: object, path: Path) -> None:
    """As `torch.save`, which does not say when a disk is full."""
    import torch

    buffer = io.BytesIO()
    torch.save(values, buffer)
    path.write_bytes(buffer.getbuffer())


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A new folder inside a folder, gone again afterwards unless it was moved."""
    aside = folder / f".aside-{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _mean_regret(table: Table, seeds: Sequence[int]) -> float:
    """Mean regret of some seeds; NaN where one diverged: what it is left with says nothing of the condition."""
    regrets, diverged = table.column("regret"), table.column("diverged")
    values = [float("nan") if diverged[seed] == "True" else float(regrets[seed] or "nan") for seed in seeds]
    return sum(values) / len(values)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
