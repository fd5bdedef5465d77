"""Random search: the values that an interval on the command line stands for, draw by draw."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from hydra.core.override_parser.types import IntervalSweep, Override

from alignsim._lazy import numpy as np


class Interval(NamedTuple):
    """What `interval(low, high)` says, within `tag(log, ...)` or `int(...)` or not."""

    low: float
    high: float
    log: bool

    @property
    def is_sound(self) -> bool:
        """Whether it can be drawn from."""
        return self.low < self.high and math.isfinite(self.high - self.low) and (self.low > 0 or not self.log)


def interval_of(override: Override) -> Interval | None:
    """The interval that an override sweeps; None where it sweeps none."""
    value = override.value()
    if not isinstance(value, IntervalSweep) or value.start is None or value.end is None:
        return None
    return Interval(value.start, value.end, "log" in value.tags)


def draw_name(key: str, others: Iterable[str] = ()) -> str:
    """Returns the name that the draws of a key are a function of: what the key was called when methods were tuned.

    So `experiment=tune` still draws the trials from which the settings in conf/method were chosen, and all methods with
    one fitted stage get the same draws for it.

    Args:
        key: dotted.
        others: the other keys of the job whose values are drawn.
    """
    parts = key.split(".")
    fits = {other.split(".")[1] for other in others if other.count(".") > 1}
    stages = {"reward_fit": "supervised", "policy_fit": "distillation" if "reward_fit" in fits else "supervised"}
    last = {"logit_scale": "scale", "steps_per_iteration": "iteration"}
    if parts[0] != "method" or len(parts) < 2:
        return key
    return ".".join([parts[0], *(stages.get(part, part) for part in parts[1:-1]), last.get(parts[-1], parts[-1])])


def drawn(override: Override, draw: int, seed: int, name: str) -> str:
    """An override with one value from its interval, the same whenever and wherever the draw is made.

    Args:
        override: `key=interval(low, high)`; with `tag(log, ...)` uniform in the logarithm, with `int(...)` whole.
            Values have three digits, so that people can write them down, six in a narrow interval.
        draw: its number, from 0.
        seed: other seeds give other draws.
        name: see `draw_name`; other names give other draws.
    """
    interval = interval_of(override)
    assert interval is not None
    low, high, log = interval
    key = (zlib.crc32(name.encode()), draw)
    u = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)).random()
    digits = 3 if high - low > max(abs(low), abs(high)) / 10 else 6
    whole = isinstance(low, int) and isinstance(high, int)
    a, b = (low - 0.5, high + 0.5) if whole else (low, high)  # rounding gives every whole number its share
    value = math.exp(math.log(a) + u * (math.log(b) - math.log(a))) if log else a + u * (b - a)
    value = round(value) if whole else float(f"{value:.{digits}g}")
    return f"{override.get_key_element()}={min(max(value, low), high)}"
