"""How numbers, seeds, times and tables are written for people: in logs, on the screen, in figures and on pages.

Everything here turns plain values into text; what is worth saying is decided where it is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: Spaces between the columns of a table.
_GAP = "  "

#: A cell that is aligned to the right if its whole column is: a number, or a dash where there is none.
_NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?|-|[-+]?(nan|inf)|")


def format_table(rows: Iterable[Sequence[str] | str], headings: Sequence[str] = (), indent: int = 0) -> str:
    r"""Returns rows of cells as text with aligned columns, one line for each row and no line break at the end.

    A column of numbers is aligned to the right, together with its heading; any other one to the left.

    Args:
        rows: the cells of each row, which may have fewer of them than there are columns. A string in place of a row is
            a line of its own, such as a remark about the row above it, and does not widen any column.
        headings: the first line, empty for none.
        indent: how many spaces stand before every line.

    >>> print(format_table([("dpo", "0.9"), ("rlhf", "12.5")], headings=("method", "regret")))
    method  regret
    dpo        0.9
    rlhf      12.5
    """
    lines = [*([headings] if headings else []), *rows]
    table = [line for line in lines if not isinstance(line, str)]
    n_columns = max(map(len, table), default=0)
    columns = [[row[i] for row in table if i < len(row)] for i in range(n_columns)]
    widths = [max(map(len, cells)) for cells in columns]
    right = [all(map(_NUMBER.fullmatch, cells[bool(headings) :])) for cells in columns]

    def aligned(row: Sequence[str]) -> str:
        cells = zip(row, widths, right, strict=False)
        return _GAP.join(cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells)

    texts = (line if isinstance(line, str) else aligned(line) for line in lines)
    return "\n".join(" " * indent + text.rstrip() for text in texts)


def format_seed_ranges(seeds: Sequence[int]) -> str:
    """Returns increasing seeds as ranges.

    >>> format_seed_ranges([0, 1, 2, 7, 9, 10])
    '0 to 2, 7, 9, 10'
    """
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and runs[-1][-1] == seed - 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def three_decimals(value: float) -> str:
    """Returns a number with three decimals, without a sign where it rounds to 0.

    >>> three_decimals(-0.0002)
    '0.000'
    """
    return f"{round(value, 3) + 0.0:.3f}"


def counted(n: int, thing: str) -> str:
    """Returns a number of things.

    >>> counted(1, "seed"), counted(4, "seed")
    ('1 seed', '4 seeds')
    """
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def duration(seconds: float) -> str:
    """Returns a time as people read it.

    >>> duration(3725)
    '1 h 2 min'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
