"""A job: one condition of a command on some seeds. It checks which seeds exist and trains the others.

`Job.run` reports its own failure and does not raise it, so that a sweep goes on; only an interruption is raised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from alignsim.config.dotted import flatten
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.hardware import device_named, prepare, processes_at_once, seeds_in_stack
from alignsim.runs.storage.atomic import CorruptFileError
from alignsim.runs.storage.folder import LOG, RunFolder
from alignsim.runs.storage.state import JobState, PlannedState
from alignsim.runs.storage.survey import Survey
from alignsim.runs.storage.table import mean_regret, results_table
from alignsim.runs.storage.versions import CONDITION, code_stamp
from alignsim.runs.text import format_seed_ranges
from alignsim.runs.train_config import GROUPS, TrainConfig

if TYPE_CHECKING:
    import logging

    import pandas as pd

    from alignsim.runs.condition import Condition
    from alignsim.runs.parallel import Event

#: Keys that are left out of the configuration beside results: they say how or why a command was given.
NOT_STORED = ("dry_run", "force", "question", "claims")


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        key: the key of the job.
        name: the name of its folder.
        title: method, environment and what the command line changed.
        state: the state that the job ended in.
        note: the reason of the state, on one line.
        seconds: the time that it took.
        regret: mean regret over the wanted seeds; NaN where there is none.
    """

    key: tuple[str, ...]
    name: str
    title: str
    state: JobState
    note: str = ""
    seconds: float = 0.0
    regret: float = float("nan")


@dataclass(frozen=True)
class Job:
    """A condition on some seeds.

    Attributes:
        config: its checked configuration.
        method: the name of the method in tables and figures.
        env: the name of the environment in tables and figures.
        key: its overrides, which distinguish it from the other jobs of a command.
        changes: those overrides that its title shows.
        root: the folder that `output_dir` is relative to.
    """

    config: TrainConfig
    method: str
    env: str
    key: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    root: Path = Path()

    @cached_property
    def folder(self) -> RunFolder:
        """Where its results are stored; long names of methods and environments are cut to what file systems take."""
        run, parts = self.config.run, [getattr(self.config, group) for group in GROUPS]
        name = f"{self.method[:80]}-{self.env[:80]}-{self.config.hash}"
        return RunFolder(self.root / run.output_dir / run.study / name, self.config.digest, code_stamp(parts))

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def seeds(self) -> range:
        """The wanted seeds."""
        return self.config.run.seeds.all

    @cached_property
    def device(self) -> str:
        """The device to train on."""
        return device_named(self.config.run.device)

    @property
    def title(self) -> str:
        """Method, environment and what the command line changed."""
        return "   ".join([f"{self.method} · {self.env}", *self.changes])

    @property
    def values(self) -> dict[str, Any]:
        """The names of method and environment, the digest of the condition and its values by dotted keys."""
        return {"method": self.method, "env": self.env, CONDITION: self.config.digest, **flatten(self.config.identity)}

    def survey(self) -> Survey:
        """What exists of the wanted seeds."""
        return Survey.from_folder(self.folder, self.seeds, self.config.run.force)

    def planned_state(self) -> tuple[PlannedState, str]:
        """The state that the job would start from, and what it would train, in words."""
        survey = self.survey()
        if survey.state != "finished" and self.folder.lock.is_taken():
            return "busy", f"{self.folder.lock.owner()} is training it"
        return survey.state, self._in_words(survey)

    def result(self, state: JobState, note: str = "", regret: float = float("nan")) -> JobResult:
        """The result of this job with a state that it came to."""
        return JobResult(self.key, self.name, self.title, state, note, regret=regret)

    def skipped(self, survey: Survey) -> JobResult:
        """The result of a job whose seeds had all finished before; what a killed run left behind is cleared away."""
        with contextlib.suppress(OSError, Timeout, CorruptFileError):
            if not self.folder.is_settled:
                with self.folder.lock.take(wait=False):
                    self.folder.settle()
        return self.result("skipped", "had finished before", regret=survey.regret)

    def run(self, *, show: bool = True, wait: bool = True, threads: int | None = None, command: str = "") -> JobResult:
        """Lock the condition and train the seeds that remain. An error of the training becomes a result, `failed`.

        Args:
            show: print the progress; the log of the run has it in any case.
            wait: wait for another process that trains this condition; otherwise the result is `busy`.
            threads: cores to use at once, None for all.
            command: what the user typed, for the record.
        """
        began = time.perf_counter()
        try:
            with self._locked(wait) as waited:
                survey = self.survey()
                if survey.state == "finished":
                    self.folder.settle()
                    note = "another process has finished it" if waited else "had finished before"
                    result = self.result("skipped", note, regret=survey.regret)
                elif survey.state == "outdated":
                    result = self.result("failed", survey.note)
                else:
                    result = self.train(survey, show, threads, command)
        except Timeout:
            survey, note = self.survey(), f"{self.folder.lock.owner()} is training it"
            result = self.skipped(survey) if survey.state == "finished" else self.result("busy", note)
        except Exception as error:
            result = self.result("failed", f"{type(error).__name__}: {error}".replace("\n", " "))
        return dataclasses.replace(result, seconds=time.perf_counter() - began)

    @contextlib.contextmanager
    def _locked(self, wait: bool) -> Iterator[bool]:
        """Hold the lock of the condition. Yields whether another process had it first.

        Raises:
            filelock.Timeout: another process has it, and `wait` is False or all wanted seeds have finished.
        """
        lock, waited = self.folder.lock, False
        try:
            held = lock.take(wait=False).acquire()
        except Timeout:
            if not wait or self.survey().state == "finished":
                raise
            print(f"  {lock.owner()} is training it: waiting for it", flush=True)
            held, waited = lock.take(wait=True).acquire(), True
        with held:
            yield waited

    def train(self, survey: Survey, show: bool, threads: int | None, command: str) -> JobResult:
        """Train the seeds that remain, as many chunks of them at once as there are cores. The lock must be held.

        Args:
            survey: what exists of the wanted seeds.
            show: print the progress.
            threads: cores to use at once, None for all.
            command: what the user typed.
        """
        from alignsim.runs.parallel import train_at_once
        from alignsim.runs.progress import run_log

        began = time.perf_counter()
        self.folder.lock.sign()
        prepare(self.config.run.device, threads)
        self.folder.start(self.device, self.config.run.force, command)
        with run_log(self.folder.path / LOG, show) as log:
            self._log_start(survey, command, log)
            try:
                for chunks, on_event in self._rounds(survey, threads, show, log):
                    if len(chunks) == 1:  # in this process, which a debugger can follow
                        self._train_chunk(chunks[0], partial(on_event, 0))
                    else:
                        train_at_once(chunks, self._train_chunk, on_event)
                values = {key: value for key, value in self.config.to_plain().items() if key not in NOT_STORED}
                warnings = self.folder.finish(values)
            except BaseException as error:
                self._log_failure(error, log)
                raise
            table = self.folder.finished()
            log.info("\n  ".join([*(f"warning: {w}" for w in warnings), *results_table(table, self.seeds)]))
            log.info(f"{self.folder.path}   {time.perf_counter() - began:.1f} s")
        return self.result("finished", regret=mean_regret(table, self.seeds))

    def _rounds(
        self, survey: Survey, threads: int | None, show: bool, log: logging.Logger
    ) -> Iterator[tuple[list[list[int]], Callable[[int, Event], None]]]:
        """For each round, the chunks of seeds that are trained at once and the function that gets their events."""
        from alignsim.runs.progress import StageProgress

        at_once = processes_at_once(self.device, threads)
        size = self.config.run.seeds.per_stack or seeds_in_stack(self.device, len(survey.remaining), at_once)
        chunks = chunks_of(survey.remaining, size, survey.begun)
        self.folder.start_chunks(chunks)
        rounds = [chunks[i : i + at_once] for i in range(0, len(chunks), at_once)]
        for i, together in enumerate(rounds, start=1):
            if len(rounds) > 1:
                seeds = [seed for chunk in together for seed in chunk]
                log.info(f"seeds {format_seed_ranges(seeds)}, part {i} of {len(rounds)}")
            yield together, partial(self._on_event, together, StageProgress(log.info, len(together), show).on_event)

    def _on_event(
        self, chunks: list[list[int]], on_progress: Callable[[int, Event], None], number: int, event: Event
    ) -> None:
        """Note the checkpoint of the chunk with this number, or show its progress."""
        if event[0] == "saved":
            self.folder.note_saved(chunks[number], event[1])
        else:
            on_progress(number, event)

    def _train_chunk(self, seeds: Sequence[int], emit: Callable[[Event], None]) -> None:
        """Train a chunk of seeds and store its results, in this process or in one of its own."""
        from alignsim.runs.condition import run_condition
        from alignsim.runs.progress import ProgressEmitter

        checkpoint = self.folder.checkpoint(seeds)
        condition = condition_of(self.config, seeds, self.device)
        try:
            outcome = run_condition(condition, ProgressEmitter(emit), checkpoint, self.config.run.checkpoint_every)
        except BaseException:
            if checkpoint.saved_at:
                emit(("saved", checkpoint.saved_at))
            raise
        self.folder.store_chunk(self._labeled(outcome.results), outcome.history, outcome.weights())

    def _labeled(self, results: pd.DataFrame) -> pd.DataFrame:
        """The rows of results with the names of method and environment first and the values of the condition last."""
        labels = {"method": self.method, "env": self.env}
        ordered = results.assign(**labels)[[*labels, "seed", *MEASURES, *DIVERGED]]
        return ordered.assign(**flatten(self.config.identity))

    def _in_words(self, survey: Survey) -> str:
        """The sentence that says which of the wanted seeds exist and which would be trained."""
        if survey.state == "finished":
            return f"seeds {format_seed_ranges(survey.finished)}"
        if survey.state == "outdated":
            return survey.note
        n_existing = len(self.seeds) - len(survey.remaining)
        parts = [f"{n_existing} of {len(self.seeds)} seeds exist"] if n_existing else []
        remaining = format_seed_ranges(survey.remaining)
        parts.append(f"to train: seeds {remaining}" if remaining else "to be put together")
        parts += ["finished ones are replaced when the new ones are complete"] * self.config.run.force
        return "; ".join([*parts, survey.note] if survey.note else parts)

    def _log_start(self, survey: Survey, command: str, log: logging.Logger) -> None:
        forced = ", finished ones too" * self.config.run.force
        log.debug(f"{command}; seeds {format_seed_ranges(self.seeds)}{forced}; results of {self.folder.code}")
        if survey.state != "new" or survey.note:
            log.info(self._in_words(survey))

    def _log_failure(self, error: BaseException, log: logging.Logger) -> None:
        """Mark the run as failed, unless its results are complete, and say what is kept of it."""
        if Survey.from_folder(self.folder, self.seeds).state != "finished" or self.config.run.force:
            self.folder.fail(error)
        if isinstance(error, Exception):
            log.error("failed", exc_info=error)
        survey = self.survey()
        log.info(f"kept: {self._in_words(survey)}" if survey.state == "partial" else "nothing is kept of it")


def chunks_of(seeds: Sequence[int], size: int, begun: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Seeds in chunks of at most `size`. Chunks whose training has begun come first and stay as they were.

    >>> chunks_of([3, 4, 5, 6, 7], 2, begun=[[5, 6]])
    [[5, 6], [3, 4], [7]]
    """
    known = {seed for chunk in begun for seed in chunk}
    rest = [seed for seed in seeds if seed not in known]
    return [*map(list, begun), *(rest[i : i + size] for i in range(0, len(rest), size))]


def condition_of(config: TrainConfig, seeds: Sequence[int], device: str) -> Condition:
    """The condition that a configuration describes, on some seeds and a device."""
    from alignsim.runs.condition import Condition

    env = dataclasses.replace(config.env, seeds=tuple(seeds), device=device)
    return Condition(config.method, env, config.model, config.run.beta, config.run.evaluation)
