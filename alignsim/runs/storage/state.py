"""The states of a run, of its seeds and of a job by name, and the content of `status.json`.

They are written by `folder`, read by `survey` and reported by `alignsim.runs.job`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass

#: The state of the last run of a condition, as that run has stored it.
RunState = Literal["running", "finished", "failed"]

#: The state of the seeds that a run wants. `finished`: all exist; `partial`: some exist, or a checkpoint does;
#: `failed`: none exist and the last run failed; `outdated`: other code trained them; `new`: none exist.
SurveyState = Literal["finished", "partial", "failed", "outdated", "new"]

#: The state of a job that is over. `finished`: it has trained; `skipped`: everything existed before; `busy`: another
#: process trains it; `not run`: it was not tried; `failed`: an error ended it.
JobState = Literal["finished", "skipped", "busy", "not run", "failed"]

#: The state that a job would start from.
PlannedState = Literal[SurveyState, "busy"]


@pydantic_dataclass(config=ConfigDict(extra="ignore"))
class Status:
    """What `status.json` says about the last run that had something to train.

    Attributes:
        state: the state of that run.
        started: the time at which it started, UTC.
        ended: the time at which it ended; None while it is running, or where it was killed.
        error: type, message and traceback of what ended it, also of being stopped.
        stopped: whether it was stopped from outside (Ctrl-C, SIGTERM) and did not fail.
        training: the chunks of seeds that the run trains.
        checkpoint: in words, how far those in training had come when the run ended.
        force: whether the run trains also what had been finished.
        command: what the user typed.
        process: the number of its process, and the machine.
        versions: of the results, see `code_stamp`, and of packages.
        device: the device that it trained on.
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
