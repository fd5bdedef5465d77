"""How things stand: the words for the state of a run, of its seeds and of a job, and what `status.json` says.

Who writes and who reads them is elsewhere.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass

#: Of the last run of a condition, as it has said itself.
RunState = Literal["running", "finished", "failed"]

#: Of the seeds that a run wants: all there; some, or a checkpoint; none after a failure; of other code; none.
SurveyState = Literal["finished", "partial", "failed", "outdated", "new"]

#: Of a job that is over: trained; there before; being trained by another process; not tried; failed.
JobState = Literal["finished", "skipped", "busy", "not run", "failed"]

#: Of a job that is not begun: what running it would meet.
PlannedState = Literal[SurveyState, "busy"]


@pydantic_dataclass(config=ConfigDict(extra="ignore"))
class Status:
    """What `status.json` says about the last run that had something to train.

    Attributes:
        state: of that run.
        started: when, UTC.
        ended: when, None while it is running (or was killed).
        error: type, message and traceback of what ended it, also of being stopped.
        stopped: whether it was stopped from outside (Ctrl-C, SIGTERM) and did not fail.
        training: the chunks of seeds that the run trains.
        checkpoint: in words, how far those in training had come when the run ended.
        force: whether the run trains also what had been finished.
        command: what the user typed.
        process: its number and machine.
        versions: of the results' meaning, see `code_stamp`, and of packages.
        device: trained on.
    """

    state: RunState
    started: str = ""
    ended: str | None = None
    error: dict[str, str] | None = None
    stopped: bool = False
    training: list[list[int]] = field(default_factory=list)
    checkpoint: str | None = None
    force: bool = False
    command: str = ""
    process: str = "another process"
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
