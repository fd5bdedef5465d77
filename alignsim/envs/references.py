"""The reference policies that an environment can have. `conf/env/reference/` has a file for each component.

Their probabilities are computed by the environments, which know what a response is made of.
"""

from __future__ import annotations

from abc import ABC
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT, Component


@dataclass(frozen=True, config=STRICT)
class Reference(Component, ABC):
    """The policy that training starts from and that KL divergences are taken to."""


@dataclass(frozen=True, config=STRICT)
class Uniform(Reference):
    """Every response has the same probability."""


@dataclass(frozen=True, config=STRICT)
class Tilted(Reference):
    """ref(y | x) is proportional to exp(tilt r*(x, y)): leaning toward good responses, or away from them.

    A tilt of 0 is uniform. A tilt above 0 gives the policy that is optimal for beta = 1 / tilt over a uniform
    reference, and a tilt below 0 gives that of the opposite reward. The tilt changes the reference policy and not the
    true reward: the mean of the reward under the reference becomes `reference_value`, and the responses of a pair
    usually differ less in reward (for two tokens always), so that labels are closer to coin flips.

    Attributes:
        tilt: nats of log ref(y | x) for each unit of true reward.
    """

    tilt: Annotated[float, Field(ge=-100, le=100)] = 0.0
