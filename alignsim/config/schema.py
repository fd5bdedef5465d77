"""How strictly configuration is checked, and the parts of a run's configuration that belong to no other module.

Every configuration class is a frozen pydantic dataclass next to the code that it configures: an environment, a
network, a method and their training settings are each described where they live.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.lazy import torch

#: Unknown keys, wrong types (also 4.0 or "4" or true for a whole number), NaN and infinities are refused; a default
#: is checked too, because another value can make it wrong.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


@dataclass(frozen=True, config=STRICT)
class Seeds:
    """Which seeds a run trains: `first`, `first + 1`, ..., `count` of them.

    Attributes:
        first: the first seed.
        count: how many.
        chunk: how many are trained in one stack; finished chunks are kept whatever happens later.
    """

    first: Annotated[int, Field(ge=0, lt=2**32)] = 0
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    chunk: PositiveInt = 64

    @property
    def all(self) -> range:
        """The seeds themselves."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """How policies are measured.

    Attributes:
        prompts: held-out prompts for the final measures.
        enumeration_limit: values are exact, over all responses, while V ** T is at most this.
        samples: responses sampled for each prompt above the limit, at least 2.
        pairs: fresh preference pairs for the accuracy of the reward model or the implicit reward.
        curve_prompts: held-out prompts for the true value along training.
        curve_every: steps between two measurements of the true value along training.
    """

    prompts: PositiveInt = 512
    enumeration_limit: PositiveInt = 4096
    samples: Annotated[int, Field(ge=2)] = 64
    pairs: PositiveInt = 2000
    curve_prompts: PositiveInt = 32
    curve_every: PositiveInt = 100


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
class RandomSearch:
    """How `interval(low, high)` on the command line of a sweep is drawn.

    Attributes:
        draws: how many draws, each of all the intervals together.
        seed: other seeds give other draws.
    """

    draws: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seed: NonNegativeInt = 0


@dataclass(frozen=True, config=STRICT)
class RunSettings:
    """What `conf/train.yaml` holds beside its groups.

    Attributes:
        beta: weight of the KL term in the objective that every method optimises.
        seeds: which seeds are trained, and how many in one stack.
        evaluation: how policies are measured.
        study: the results of one question share this folder.
        output_dir: where studies are kept.
        device: `auto` takes the GPU where there is one; also `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of a job; None takes all cores, shared by the jobs that a launcher runs at once.
        dry_run: say what would be done to each condition, and do nothing.
        force: train also what is finished; the old results stay until the new ones are complete.
        fail_fast: start no other condition of a sweep after one has failed.
        checkpoint_every: seconds of training that can be lost to a kill.
        random: how intervals of a sweep are drawn.
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
    random: RandomSearch = field(default_factory=RandomSearch)


@dataclass(frozen=True, config=STRICT)
class PlotSettings:
    """What `conf/plot.yaml` holds.

    Attributes:
        study: the study to draw.
        output_dir: where studies are kept.
    """

    study: StudyName = "default"
    output_dir: Annotated[str, Field(min_length=1)] = "outputs"
