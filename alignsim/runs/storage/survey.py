"""What the folder of a condition holds of the seeds that a run wants, and what is still to be trained.

Nothing is changed here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from alignsim.runs.storage.atomic import CorruptFileError
from alignsim.runs.storage.folder import RESULTS, UNFINISHED, RunFolder
from alignsim.runs.storage.state import Status, SurveyState
from alignsim.runs.storage.table import Table, mean_regret
from alignsim.runs.storage.versions import origin_mismatch
from alignsim.runs.text import format_seed_ranges


@dataclass(frozen=True)
class Survey:
    """What a folder holds of the seeds that a run wants.

    Attributes:
        state: `finished`; `partial`, some seeds or a checkpoint exist; `failed` before and nothing exists;
            `outdated`, other code trained what it holds; `new`.
        finished: the wanted seeds whose rows are in `results.csv`.
        remaining: the wanted seeds that are still to be trained.
        begun: the chunks of them that have a checkpoint.
        note: more about it, for people.
        regret: mean regret of the wanted seeds; NaN where not all are finished, or one diverged.
    """

    state: SurveyState
    finished: list[int]
    remaining: list[int]
    begun: list[list[int]] = field(default_factory=list)
    note: str = ""
    regret: float = float("nan")

    @classmethod
    def from_folder(cls, folder: RunFolder, wanted: Sequence[int], force: bool = False) -> Survey:
        """Look into a folder, and change nothing.

        Args:
            folder: of the condition.
            wanted: the seeds that the run is to have.
            force: whether finished seeds are trained again; only what a stopped forced run left is then of use.
        """
        status, note = folder.status(), ""
        try:
            table = folder.finished()
        except CorruptFileError as error:
            table = Table([], {})
            note = f"{RESULTS} is damaged ({error}): it is set aside and its seeds are trained again"
        if not force and (origin := origin_mismatch(table, folder.condition, folder.code)) is not None:
            advice = "force=true trains them afresh and replaces them, study=NAME keeps both"
            return cls("outdated", [], list(wanted), note=f"{folder.path} holds results of {origin}; {advice}")
        existing = {} if force else table.rows
        finished = [seed for seed in wanted if seed in existing]
        if len(finished) == len(wanted):
            return cls("finished", finished, [], regret=mean_regret(table, wanted))
        resumes = not force if status is None else status.state != "finished" and (not force or status.force)
        chunks = folder.chunks() if resumes else {}
        stored = {seed for seeds in chunks.values() for seed in seeds}
        remaining = [seed for seed in wanted if seed not in existing and seed not in stored]
        begun = _begun(folder, status, remaining) if resumes and status else []
        failed = status is not None and status.state == "failed" and not status.stopped
        if resumes and len(chunks) < len(list((folder.path / UNFINISHED).glob("seeds-*"))):
            note = note or "chunks that are damaged or of other code are trained again"
        note = _note(status, begun) or note if status and not note.startswith(RESULTS) else note
        state: SurveyState = "partial" if len(remaining) < len(wanted) or begun else "failed" if failed else "new"
        return cls(state, finished, remaining, begun, note)


def _begun(folder: RunFolder, status: Status, remaining: Sequence[int]) -> list[list[int]]:
    """The chunks among the remaining seeds that today's code can go on with from a checkpoint."""
    if status.versions.get("results") != folder.code:
        return []
    chunks = [chunk for chunk in status.training if chunk and set(chunk) <= set(remaining)]
    return [chunk for chunk in chunks if folder.checkpoint_path(chunk).exists()]


def _note(status: Status, begun: Sequence[Sequence[int]]) -> str:
    """Why the last run failed, or from where the next one goes on; empty where there is nothing to say."""
    if status.state == "failed" and not status.stopped:
        error = {"type": "?", "message": ""} | (status.error or {})
        return "failed before: {type}: {message}".format(**error).replace("\n", " ")
    if begun:
        seeds = format_seed_ranges(sorted(itertools.chain(*begun)))
        return f"seeds {seeds} go on from {status.checkpoint or 'a checkpoint'}"
    return ""
