"""What `conf/train.yaml` and `conf/plot.yaml` hold beside the groups."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from alignsim._lazy import torch
from alignsim.config.claims import Claim
from alignsim.config.schema import STRICT, Configuration, Evaluation, SearchConfig, Seeds


def _plain_folder_name(name: str) -> str:
    forbidden = r'\/:*?"<>|'
    if (
        not 0 < len(name.encode()) <= 100
        or name != name.strip()
        or name.startswith(".")
        or not name.isprintable()
        or any(character in forbidden for character in name)
    ):
        raise ValueError(
            "must be one folder name of at most 100 bytes: printable, no leading dot, no space at the ends,"
            f" none of {' '.join(forbidden)}"
        )
    return name


#: The name of a study, which is one folder below the results folder.
StudyName = Annotated[str, AfterValidator(_plain_folder_name)]


def _existing_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        here = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= here:
            raise ValueError(f"does not exist: this machine has {here} CUDA devices; auto and cpu always work")
    return device


@dataclass(frozen=True, config=STRICT)
class RunSettings(Configuration):
    """What `conf/train.yaml` holds beside its groups.

    Attributes:
        beta: weight of the KL term in the objective that every method optimizes.
        seeds: which seeds are trained, and how many in one stack.
        evaluation: how policies are measured.
        study: the results of one question share this folder.
        output_dir: where studies are kept.
        device: `auto` takes the GPU where there is one; also `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of a job, each for a process that trains some of the seeds; None takes all cores, which the
            jobs that a launcher runs at once share.
        dry_run: say what would be done to each condition, and do nothing.
        force: train also what is finished; the old results stay until the new ones are complete.
        fail_fast: start no other condition of a sweep after one has failed.
        checkpoint_every: seconds of training that can be lost to a kill.
        search: how intervals of a sweep are drawn.
        question: what a study asks, in one sentence.
        claims: what is predicted of its results, by name.
    """

    beta: PositiveFloat = 0.5
    seeds: Seeds = field(default_factory=Seeds)
    evaluation: Evaluation = field(default_factory=Evaluation)
    study: StudyName = "default"
    output_dir: Annotated[str, Field(min_length=1)] = "outputs"
    device: Annotated[str, AfterValidator(_existing_device)] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    dry_run: bool = False
    force: bool = False
    fail_fast: bool = False
    checkpoint_every: NonNegativeFloat = 10.0
    search: SearchConfig = field(default_factory=SearchConfig)
    question: str = ""
    claims: dict[Annotated[str, Field(pattern=r"^\w{1,60}$")], Claim] = field(default_factory=dict)


#: The method that every other one is compared with, unless another is asked for.
BASELINE = "dpo"


@dataclass(frozen=True, config=STRICT)
class PlotSettings:
    """What `conf/plot.yaml` holds.

    Attributes:
        study: the study to draw.
        output_dir: where studies are kept.
        baseline: the method that every other one is compared with.
    """

    study: StudyName = "default"
    output_dir: Annotated[str, Field(min_length=1)] = "outputs"
    baseline: str = BASELINE
