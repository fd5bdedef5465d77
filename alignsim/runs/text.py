"""Words and numbers as they are printed: ranges of seeds, durations."""

from __future__ import annotations

from collections.abc import Sequence


def format_seed_ranges(seeds: Sequence[int]) -> str:
    """Seeds in words.

    >>> span([0, 1, 2, 7, 9, 10])
    '0 to 2, 7, 9, 10'
    """
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and ranges[-1][-1] == seed - 1:
            ranges[-1].append(seed)
        else:
            ranges.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in ranges)


def duration(seconds: float) -> str:
    """A time that people can read.

    >>> duration(3725)
    '1 h 2 min'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
