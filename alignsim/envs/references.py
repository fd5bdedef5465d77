"""The reference policies that an environment can have: one component for each file of `conf/env/reference/`.

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

    Uniform at 0; at a tilt above 0 the policy that is optimal for beta = 1 / tilt over a uniform reference; at a tilt
    below 0 that of the opposite reward. The tilt moves the reference policy alone, the true reward stays what it is:
    its mean under the reference becomes `reference_value`, and as a rule (for two tokens always) the responses of a
    pair differ less in it, so that labels are closer to coin flips.

    Attributes:
        tilt: nats of log ref(y | x) for each unit of true reward.
    """

    tilt: Annotated[float, Field(ge=-100, le=100)] = 0.0
