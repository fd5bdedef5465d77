"""A look into the folder of a condition: which of the seeds that a run wants are there, and what is to be trained.

Nothing is changed by looking.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from alignsim.runs.storage.atomic import CorruptFileError
from alignsim.runs.storage.folder import RESULTS, UNFINISHED, RunFolder
from alignsim.runs.storage.state import SurveyState
from alignsim.runs.storage.table import Table, mean_regret
from alignsim.runs.storage.versions import origin_mismatch
from alignsim.runs.text import format_seed_ranges


@dataclass(frozen=True)
class Survey:
    """What is there of the seeds that a run wants.

    Attributes:
        state: `finished`; `partial`, some seeds or a checkpoint are kept; `failed` before and nothing is kept;
            `outdated`, other code trained what is there; `new`.
        finished: the wanted seeds whose rows are in `results.csv`.
        remaining: the wanted seeds that are still to be trained.
        begun: the chunks of them that a checkpoint is of.
        note: more about it, for people.
        regret: mean over the wanted seeds where all are finished; NaN else, and where one diverged.
    """

    state: SurveyState
    finished: list[int]
    remaining: list[int]
    begun: list[list[int]] = field(default_factory=list)
    note: str = ""
    regret: float = float("nan")

    @classmethod
    def from_folder(cls, folder: RunFolder, wanted: Sequence[int], force: bool = False) -> Survey:
        """What is there of the wanted seeds. With `force` nothing is, but for a forced run that was stopped."""
        status, note = folder.status(), ""
        try:
            table = folder.finished()
            whose = None if force else origin_mismatch(table, folder.condition, folder.code)
        except CorruptFileError as error:
            table, whose = Table([], {}), None
            note = f"{RESULTS} is damaged ({error}): it is set aside and its seeds are trained again"
        if whose is not None:
            message = (
                f"{folder.path} holds results of {whose};"
                " force=true trains them afresh and replaces them, study=NAME keeps both"
            )
            return cls("outdated", [], list(wanted), note=message)
        there = {} if force else table.rows
        finished = [seed for seed in wanted if seed in there]
        if len(finished) == len(wanted):
            return cls("finished", finished, [], regret=mean_regret(table, wanted))
        goes_on = not force if status is None else status.state != "finished" and (not force or status.force)
        chunks = folder.chunks() if goes_on else {}
        kept = {seed for seeds in chunks.values() for seed in seeds}
        remaining = [seed for seed in wanted if seed not in there and seed not in kept]
        begun: list[list[int]] = []
        failed = False
        if status is not None:
            if goes_on and status.versions.get("results") == folder.code:
                open_chunks = [chunk for chunk in status.training if chunk and set(chunk) <= set(remaining)]
                begun = [chunk for chunk in open_chunks if folder.checkpoint_path(chunk).exists()]
            failed = status.state == "failed" and not status.stopped
            if failed and not note:
                told = {"type": "?", "message": ""} | (status.error or {})
                note = "failed before: {type}: {message}".format(**told).replace("\n", " ")
            elif begun and not note:
                seeds = format_seed_ranges(sorted(itertools.chain(*begun)))
                note = f"seeds {seeds} go on from {status.checkpoint or 'a checkpoint'}"
        if goes_on and not note and len(chunks) < len(list((folder.path / UNFINISHED).glob("seeds-*"))):
            note = "chunks that are damaged or of other code are trained again"
        state: SurveyState = "partial" if len(remaining) < len(wanted) or begun else "failed" if failed else "new"
        return cls(state, finished, remaining, begun, note)
