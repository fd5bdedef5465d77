"""What a claim is: a prediction about a study, written in YAML before its results are seen."""

from __future__ import annotations

import itertools
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, model_validator
from pydantic.dataclasses import dataclass

from alignsim.config.schema import STRICT

#: What a claim can predict.
Prediction = Literal["greater", "less", "equal", "shrinks", "increases", "decreases"]

Scalar = str | bool | int | float | None

#: Which conditions are meant: the values of `method`, `env` and dotted keys such as `env.complexity_factor`; a list of
#: values means any of them.
Selection = dict[str, Scalar | list[Scalar]]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Claim:
    """A prediction about the difference of a measure between two conditions, seed by seed, or about one condition.

    Attributes:
        says: the claim in one sentence.
        source: where it comes from: paper and section, or whose expectation it is.
        predicts: `greater` or `less`: the mean difference is above `margin`, or below `-margin`; `equal`: it lies
            between them; `shrinks`: the difference `where` is larger than that `elsewhere`, by more than `margin`;
            `increases` or `decreases`: the difference does so `along` a swept value.
        condition: what the claim is about.
        baseline: what it is compared with; None compares with 0.
        where: holds for both, such as `{env: gap}`.
        elsewhere: as `where`, what `shrinks` compares with.
        along: the key of a swept number.
        measure: a column of `results.csv`.
        margin: the smallest difference that matters, in units of the measure; above 0 for `equal`.
    """

    says: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    predicts: Prediction
    condition: Selection
    baseline: Selection | None = None
    where: Selection = field(default_factory=dict)
    elsewhere: Selection | None = None
    along: str | None = None
    measure: str = "normalized_value"
    margin: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _is_complete(self) -> Claim:
        trend = self.predicts in ("increases", "decreases")
        if (self.elsewhere is not None) != (self.predicts == "shrinks"):
            raise ValueError("`elsewhere` and `predicts: shrinks` belong together")
        if self.predicts == "shrinks" and self.baseline is None:
            raise ValueError("`predicts: shrinks` is about a difference: it needs a `baseline`")
        if self.where == self.elsewhere:
            raise ValueError("`where` and `elsewhere` are the same")
        for part, place in itertools.product(("condition", "baseline"), ("where", "elsewhere")):
            if both := set(getattr(self, part) or {}) & set(getattr(self, place) or {}):
                raise ValueError(f"`{part}` and `{place}` both say {', '.join(sorted(both))}")
        if (self.along is not None) != trend:
            raise ValueError("`along` belongs to `predicts: increases` and `decreases`, and they need it")
        if trend and self.margin:
            raise ValueError("a trend has no `margin`")
        if self.predicts == "equal" and not self.margin:
            raise ValueError("`predicts: equal` needs a `margin` above 0")
        return self
