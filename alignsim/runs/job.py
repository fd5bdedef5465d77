"""One condition of a command: what is there of it, what is still to be done, and doing it.

A job never raises because of its own failure: it reports it, so that a sweep goes on. Only being stopped goes through.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from alignsim.runs.storage.table import format_seed_ranges, results_table
from alignsim.runs.storage.versions import CONDITION, code_stamp
from alignsim.runs.train_config import GROUPS, TrainConfig

if TYPE_CHECKING:
    import logging

    import pandas as pd

    from alignsim.runs.condition import Condition
    from alignsim.runs.parallel import Event


@dataclass(frozen=True)
class Report:
    """How a job went.

    Attributes:
        key: that of the job.
        name: the name of its folder.
        title: method, environment and what the command line changed.
        state: `finished`; `skipped`, it had finished before; `failed`; `busy`, another process is at it; `not run`.
        note: what or why, on one line.
        seconds: how long it took.
        regret: mean regret over the wanted seeds, NaN where there is none.
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
        method: the method's name in tables and figures.
        env: the environment's name there.
        key: its overrides, which tell it from the other jobs of a command.
        changes: those of them that people want to see.
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
        """Where its results are kept; long names of methods and environments are cut to what file systems take."""
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

    def survey(self) -> Survey:
        """What is there of the wanted seeds."""
        return Survey.from_folder(self.folder, self.seeds, self.config.run.force)

    def planned_state(self) -> tuple[PlannedState, str]:
        """What running the job would do: a state as of `Survey`, or `busy`, and more in words."""
        survey = self.survey()
        if survey.state != "finished" and self.folder.lock.is_taken():
            return "busy", f"{self.folder.lock.owner()} is training it"
        return survey.state, self._in_words(survey)

    def _in_words(self, survey: Survey) -> str:
        if survey.state == "finished":
            return f"seeds {format_seed_ranges(survey.finished)}"
        if survey.state == "outdated":
            return survey.note
        there = len(self.seeds) - len(survey.remaining)
        parts = [f"{there} of {len(self.seeds)} seeds are there"] if there else []
        parts.append(
            f"to train: seeds {format_seed_ranges(survey.remaining)}" if survey.remaining else "to be put together"
        )
        parts += ["finished ones are replaced when the new ones are complete"] * self.config.run.force
        return "; ".join([*parts, survey.note] if survey.note else parts)

    def run(self, *, show: bool = True, wait: bool = True, threads: int | None = None, command: str = "") -> Report:
        """Train what is still to be trained.

        Args:
            show: print how it goes; it is in the log of the run in any case.
            wait: until another process that trains this condition is done; else report `busy`.
            threads: cores to use at once, None for all.
            command: what the user typed, for the record.
        """
        began = time.perf_counter()
        try:
            report = self._run(show, wait, threads, command)
        except Exception as error:
            note = f"{type(error).__name__}: {error}".replace("\n", " ")
            report = self.report("failed", note)
        return dataclasses.replace(report, seconds=time.perf_counter() - began)

    def skipped(self, survey: Survey) -> Report:
        """The report of a job whose seeds had all finished before."""
        with contextlib.suppress(OSError, Timeout, CorruptFileError):
            if not self.folder.is_settled:
                with self.folder.lock.take(wait=False):
                    self.folder.settle()
        return self.report("skipped", "had finished before", regret=survey.regret)

    def report(self, state: JobState, note: str = "", regret: float = float("nan")) -> Report:
        """That the job came to this state."""
        return Report(self.key, self.name, self.title, state, note, regret=regret)

    def _run(self, show: bool, wait: bool, threads: int | None, command: str) -> Report:
        survey = self.survey()
        if survey.state == "finished":
            return self.skipped(survey)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.folder.lock.take(wait=False))
            except Timeout:
                note = f"{self.folder.lock.owner()} is training it"
                if not wait:
                    return self.report("busy", note)
                print(f"  {note}: waiting for it", flush=True)
                stack.enter_context(self.folder.lock.take(wait=True))
            survey = self.survey()  # another process may have finished it meanwhile
            if survey.state == "finished":
                return self.report("skipped", "another process has finished it", regret=survey.regret)
            if survey.state == "outdated":
                return self.report("failed", survey.note)
            self.folder.lock.sign()
            prepare(self.config.run.device, threads)
            return self._train(survey, show, threads, command)

    def _train(self, survey: Survey, show: bool, threads: int | None, command: str) -> Report:
        """Train what remains, the lock being held; what happens is in the log."""
        from alignsim.runs.progress import run_log

        began = time.perf_counter()
        self.folder.start(self.device, self.config.run.force, command)
        with run_log(self.folder.path / LOG, show) as log:
            forced = ", finished ones too" * self.config.run.force
            log.debug(f"{command}; seeds {format_seed_ranges(self.seeds)}{forced}; results of {self.folder.code}")
            if survey.state != "new" or survey.note:
                log.info(self._in_words(survey))
            try:
                self._train_chunks(survey, show, threads, log)
                # what is kept says how to get it again, not how or why it was asked for
                left_out = ("dry_run", "force", "question", "claims")
                values = {key: value for key, value in self.config.to_plain().items() if key not in left_out}
                lost = self.folder.finish(values)
            except BaseException as error:
                if Survey.from_folder(self.folder, self.seeds).state != "finished" or self.config.run.force:
                    self.folder.fail(error)
                if isinstance(error, Exception):
                    log.error("failed", exc_info=error)
                kept = self.survey()
                log.info(f"kept: {self._in_words(kept)}" if kept.state == "partial" else "nothing is kept of it")
                raise
            for line in lost:
                log.info(f"warning: {line}")
            table = self.folder.finished()
            log.info("\n  ".join(results_table(table, self.seeds)))
            log.info(f"{self.folder.path}   {time.perf_counter() - began:.1f} s")
        return self.report("finished", regret=Survey.from_folder(self.folder, self.seeds).regret)

    def _train_chunks(self, survey: Survey, show: bool, threads: int | None, log: logging.Logger) -> None:
        """Train what remains, as many chunks of seeds at once as there are cores."""
        from alignsim.runs.parallel import train_at_once
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
            progress = StageProgress(log.info, len(together), show)

            def on_event(
                chunk: int, event: Event, together: list[list[int]] = together, progress: StageProgress = progress
            ) -> None:
                if event[0] == "saved":
                    self.folder.note_saved(together[chunk], event[1])
                else:
                    progress.on_event(chunk, event)

            train_at_once(together, self._train_chunk, on_event)

    def _train_chunk(self, seeds: Sequence[int], tell: Callable[[Event], None]) -> None:
        """Train a chunk of seeds and keep what that gives; perhaps in a process of its own."""
        from alignsim.runs.condition import run_condition
        from alignsim.runs.progress import ProgressEmitter

        checkpoint = self.folder.checkpoint(seeds)
        try:
            condition = condition_of(self.config, seeds, self.device)
            outcome = run_condition(condition, ProgressEmitter(tell), checkpoint, self.config.run.checkpoint_every)
        except BaseException:
            if checkpoint.saved_at:
                tell(("saved", checkpoint.saved_at))
            raise
        self.folder.keep_chunk(self._labeled(outcome.results), outcome.history, outcome.weights())

    def _labeled(self, results: pd.DataFrame) -> pd.DataFrame:
        """Rows that say of themselves which condition they are of."""
        labels = {"method": self.method, "env": self.env}
        ordered = results.assign(**labels)[[*labels, "seed", *MEASURES, *DIVERGED]]
        return ordered.assign(**flatten(self.config.identity))

    @property
    def values(self) -> dict[str, Any]:
        """What the condition is: the names of its method and environment, its digest, its values by dotted keys."""
        return {"method": self.method, "env": self.env, CONDITION: self.config.digest, **flatten(self.config.identity)}


def chunks_of(seeds: Sequence[int], size: int, begun: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Seeds in chunks of at most `size`, first those whose training has begun, together as they were.

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
