"""The table of a condition's seeds, `results.csv`: read, joined by seed, averaged and shown.

Cells stay the text that was written, so that what is copied is not changed; where the file lies is not known here.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alignsim._lazy import numpy as np
from alignsim.evaluation.measures import MEASURES
from alignsim.runs.storage.atomic import CorruptFileError
from alignsim.runs.text import counted, format_table, three_decimals

if TYPE_CHECKING:
    import pandas as pd

#: Measures in the table at the end of a run; the others are in `results.csv`.
SHOWN = ("normalized_value", "regret", "statistical_regret", "computational_regret", "kl", "pair_accuracy")


class Table(NamedTuple):
    """The rows of a `results.csv`, as text.

    Attributes:
        columns: the names of the columns.
        rows: the cells of each seed, in the order of the columns.
    """

    columns: list[str]
    rows: dict[int, list[str]]

    def column(self, name: str) -> dict[int, str]:
        """The cell of each seed in one column."""
        place = self.columns.index(name)
        return {seed: cells[place] for seed, cells in self.rows.items()}

    def measure(self, name: str) -> dict[int, float]:
        """The number of each seed in one column, NaN where there is none.

        Raises:
            ValueError: a cell is neither a number nor empty.
        """
        return {seed: _number(cell) for seed, cell in self.column(name).items()}


def _number(cell: str) -> float:
    value = float(cell or "nan")
    if cell and (math.isnan(value) or "_" in cell or not cell.isascii()):  # Python takes more than other programs do
        raise ValueError(f"{cell!r} is no number")
    return value


def parse_results(content: bytes) -> Table:
    """The rows in the bytes of a `results.csv`, of whatever version.

    Raises:
        CorruptFileError: they are not whole.
    """
    try:
        text = content.decode("utf-8")
        if not text.endswith("\n"):
            raise CorruptFileError("the last line is cut short")
        columns, *lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if missing := [name for name in ("method", "env", "seed", "regret") if name not in columns]:
            raise CorruptFileError(f"the column {missing[0]} is missing")
        if any(len(line) != len(columns) for line in lines):
            raise CorruptFileError(f"a line has not {len(columns)} columns")
        seeds = [line[columns.index("seed")] for line in lines]
        if odd := [seed for seed in seeds if not (seed.isascii() and seed.isdigit())]:
            raise CorruptFileError(f"{odd[0]!r} is no seed")
        rows = {int(seed): line for seed, line in zip(seeds, lines, strict=True)}
        for place in (columns.index(name) for name in MEASURES if name in columns):
            for line in lines:
                _number(line[place])
    except (ValueError, csv.Error) as error:
        raise CorruptFileError(str(error)) from error
    if len(rows) != len(lines):
        raise CorruptFileError("a seed has two lines")
    return Table(columns, rows)


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV file of seeds as a table of text, every cell as it was written.

    Raises:
        CorruptFileError: it is not one.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table["seed"].map(int)
    except (ValueError, KeyError) as error:
        raise CorruptFileError(f"{type(error).__name__}: {error}") from error
    return table


def join_by_seed(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of text in the order of their seeds; where two have the same seed, the later one counts."""
    import pandas as pd

    known: set[str] = set()
    parts = []
    for table in reversed(tables):
        parts.append(table[~table["seed"].isin(known)])
        known |= set(table["seed"])
    joined = pd.concat(parts[::-1] or [pd.DataFrame({"seed": []})], ignore_index=True)
    return joined.sort_values("seed", key=lambda seeds: seeds.map(int), kind="stable", ignore_index=True)


def seeds_that_count(table: Table, seeds: Sequence[int]) -> list[int]:
    """Those of some seeds whose training did not diverge and whose value is a number: the others are in no mean."""
    diverged, values = table.column("diverged"), table.measure("value")
    return [seed for seed in seeds if diverged[seed] != "True" and math.isfinite(values[seed])]


def mean_regret(table: Table, seeds: Sequence[int]) -> float:
    """Mean regret of some seeds; NaN where one diverged, because its remaining weights say nothing of the condition."""
    if len(seeds_that_count(table, seeds)) < len(seeds):
        return float("nan")
    regrets = table.measure("regret")
    return sum(regrets[seed] for seed in seeds) / len(seeds)


def results_table(table: Table, seeds: Sequence[int]) -> list[str]:
    """The main measures of some seeds of a condition, line by line: the mean and its standard error."""
    averaged = seeds_that_count(table, seeds)
    rows = []
    for name in SHOWN:
        of_seeds = table.measure(name)
        values = np.array([of_seeds[seed] for seed in averaged])
        values = values[~np.isnan(values)]
        if len(values):
            error = f"{values.std(ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else "-"
            rows.append((name, three_decimals(float(values.mean())), error))
    headings = ("", "mean", f"standard error ({counted(len(averaged), 'seed')})")
    lines = format_table(rows, headings).splitlines()
    if len(averaged) < len(seeds):
        stage, step = table.column("diverged_stage"), table.column("diverged_step")
        diverged = (
            f"{seed} ({stage[seed]}, step {step[seed]})" if stage[seed] else f"{seed} (its value is not finite)"
            for seed in seeds
            if seed not in averaged
        )
        lines.append(f"diverged and left out of these means: seed {', '.join(diverged)}")
    return lines
