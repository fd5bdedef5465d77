"""How strictly configuration is checked, and parts of it that belong to no other module.

Every configuration class is a frozen pydantic dataclass next to the code that it configures: an environment, a
network, a method and their training settings are each described where they live.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from alignsim.config.problems import Problem
from alignsim.config.renames import refuse_old_fields, refuse_old_members

if TYPE_CHECKING:
    from typing_extensions import Self

#: Unknown keys, wrong types (also 4.0 or "4" or true for a whole number), NaN and infinities are refused; a default
#: is checked too, because another value can make it wrong.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class Configuration:
    """The base of all configuration classes whose fields had other names: those are refused with the new ones."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass is defined.

        Raises:
            TypeError: it defines a field or a method that has another name now.
        """
        super().__init_subclass__(**kwargs)
        refuse_old_members(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """An instance that `__init__` has not filled yet.

        Raises:
            TypeError: a keyword argument has another name now.
        """
        refuse_old_fields(cls, kwargs)
        return super().__new__(cls)


class Component(Configuration):
    """A part of the configuration that can be of several classes: `_target_` beside its values says of which.

    That is the import path of a class in any package: ours, or the user's.
    """

    def problems(self, env: Any) -> list[Problem]:
        """What is wrong with this configuration in an environment, by keys below its own; here what its parts find.

        Args:
            env: an `alignsim.envs.base.Environment`, which this room does not know.
        """
        return _problems_of_parts(self, env)


def _problems_of_parts(whole: Any, env: Any) -> list[Problem]:
    problems: list[Problem] = []
    for name in (field.name for field in dataclasses.fields(whole)):
        part = getattr(whole, name)
        if isinstance(part, Component):
            problems += [problem.below(name) for problem in part.problems(env)]
        elif dataclasses.is_dataclass(part):
            problems += [problem.below(name) for problem in _problems_of_parts(part, env)]
    return problems


@dataclass(frozen=True, config=STRICT)
class Seeds(Configuration):
    """Which seeds a run trains: `first`, `first + 1`, ..., `count` of them.

    Attributes:
        first: the first seed.
        count: how many.
        per_stack: how many are trained in one stack, None for as many as the device trains best; finished chunks are
            kept whatever happens later. Results are the same up to rounding.
    """

    first: Annotated[int, Field(ge=0, lt=2**32)] = 0
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    per_stack: PositiveInt | None = None

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
        curve_every: steps at least between two measurements of the true value along training, which are made when a
            stage reports; one more when all steps are taken, so none where seeds stop early.
    """

    prompts: PositiveInt = 512
    enumeration_limit: PositiveInt = 4096
    samples: Annotated[int, Field(ge=2)] = 64
    pairs: PositiveInt = 2000
    curve_prompts: PositiveInt = 32
    curve_every: PositiveInt = 100


@dataclass(frozen=True, config=STRICT)
class SearchConfig(Configuration):
    """How `interval(low, high)` on the command line of a sweep is drawn.

    Attributes:
        num_trials: how many draws, each of all the intervals together.
        seed: other seeds give other draws.
        include_defaults: the first draw is none: the values as they stand in the configuration.
    """

    num_trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seed: NonNegativeInt = 0
    include_defaults: bool = False
