"""The command: its options, what it measures, and where that goes."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

STEPS = ("dpo", "reward_model", "rl", "evaluation")
SECTIONS = (*STEPS, "comparison", "growth")

#: Of anything that is counted.
MOST = 1_000_000


class _Parser(argparse.ArgumentParser):
    """Refuses bad options in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with code 2."""
        self.exit(2, f"{message}; see --help\n")


def main() -> None:
    """Measure what the options ask for: `python scripts/benchmark.py --help`."""
    options = parsed(sys.argv[1:])
    from scripts.benchmarking.comparison import FailedError
    from scripts.benchmarking.report import text

    try:
        report = measure(options)
        print(json.dumps(report, indent=2) if options.json else text(report))
    except FailedError as error:
        sys.exit(f"failed: {error}")
    except OSError as error:
        sys.exit(f"cannot read or write: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; ends with code 2 and one line where they are bad."""
    parser = _Parser(
        prog="benchmark",
        description="How fast this machine trains, against the plain way: one seed at a time, nn.Module, DataLoader.",
        epilog="Without --only: everything but growth. Close other programs first; all times are of the wall clock.",
    )

    def count(option: str, default: int | None, tells: str, most: int = MOST) -> None:
        number = partial(positive, most=most)
        parser.add_argument(option, type=number, default=default, metavar="N", help=tells)

    seeds, parts = [1, 4, 16, 64, 256], f"some of {', '.join(SECTIONS)}"
    parser.add_argument("--seeds", nargs="+", type=positive, default=seeds, metavar="N", help="default 1 4 16 64 256")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS[:-1], metavar="PART", help=parts)
    count("--repetitions", 5, "of every time (default 5)")
    parser.add_argument("--seconds", type=duration, default=1.0, metavar="S", help="of a repetition, about (default 1)")
    count("--plain-seeds", 2, "seeds that the comparison trains in the plain way (default 2); more in proportion")
    count("--threads", None, "CPU threads, at most 1024 (default: all cores)", most=1024)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="JSON in place of text")
    folder, holds = Path("outputs/benchmark"), "for growth.png and growth.csv"
    parser.add_argument("--output", type=Path, default=folder, metavar="FOLDER", help=f"{holds} (default {folder})")
    return parser.parse_args(arguments)


def positive(text: str, most: int = MOST) -> int:
    """A whole number from 1 to `most`."""
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to {most}")
    return int(text)


def duration(text: str) -> float:
    """A number above 0, at most an hour."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: must be a number above 0, at most 3600")
    return value


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the options ask for."""
    from scripts.benchmarking.session import Session

    session = Session(options.device, options.threads, options.repetitions, options.seconds, tell)
    machine = session.ask("machine")
    if problem := machine.pop("problem"):
        print(f"--device {options.device}: {problem}", file=sys.stderr)
        sys.exit(2)
    report: dict[str, Any] = {"machine": machine}
    if works := [work for work in STEPS if work in options.only]:
        report["steps"] = session.steps(works, sorted(set(options.seeds)))
    if "comparison" in options.only:
        report["comparison"] = session.comparison(options.plain_seeds)
    if "growth" in options.only:
        report["growth"] = session.growth()
        write_growth(report["growth"], options.output)
    return report


def tell(line: str) -> None:
    """What is being measured."""
    print(line, file=sys.stderr, flush=True)


def write_growth(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the numbers and the figure of how cost grows into a folder."""
    import pandas as pd

    from alignsim.config.schema import Seeds
    from alignsim.report.figures.style import use_house_style
    from alignsim.runs.storage.atomic import write_atomically
    from scripts.benchmarking.growth_figure import draw

    use_house_style()
    table = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    figure = draw(table, Seeds().count)
    write_atomically(
        {
            folder / "growth.csv": lambda aside: table.to_csv(aside, index=False),
            folder / "growth.png": lambda aside: figure.savefig(aside, format="png"),
        }
    )
    tell(f"{folder / 'growth.png'}, {folder / 'growth.csv'}")
