"""Whether two checkouts give the same numbers: python scripts/compare_checkouts.py OLD NEW.

Trains the default comparison (16 seeds) and `experiment=all_methods` (4 seeds) with the code of each checkout, and
compares every measure of every seed. Prints the largest absolute difference of each measure; exit code 0 where none is
above the tolerance. Results that are there already, from an earlier call with the same folder, are not trained again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

#: What is trained, by the name of its study.
COMMANDS = {
    "default_comparison": ["-m", "method=rlhf,dpo", "env=gap,no_gap", "study=default_comparison"],
    "all_methods": ["-m", "+experiment=all_methods", "seeds.count=4"],
}

#: Columns that say which row is which, and that differ between versions by design.
KEYS = ["method", "env", "seed"]
MEASURES = [
    *("normalized_value", "value", "value_standard_error", "optimal_value", "reference_value", "regret"),
    *("statistical_regret", "computational_regret", "reward", "kl", "pair_accuracy", "validation_loss", "best_step"),
]


def main() -> None:
    """Train, compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout of alignsim")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_checkouts"), help="where results are kept")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest difference that is none (default 0)")
    options = parser.parse_args()
    same = True
    for study, command in COMMANDS.items():
        tables: dict[str, pd.DataFrame] = {}
        for name, checkout in (("old", options.old), ("new", options.new)):
            output = (options.output / name).resolve()
            train(checkout.resolve(), [*command, f"output_dir={output}"])
            tables[name] = rows(output / study)
        same &= compare(study, tables["old"], tables["new"], options.tolerance)
    sys.exit(0 if same else 1)


def train(checkout: Path, arguments: list[str]) -> None:
    """Run scripts/train.py of a checkout with its own code, whatever is installed."""
    command = [sys.executable, str(checkout / "scripts" / "train.py"), *arguments]
    subprocess.run(command, check=True, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)})


def rows(study: Path) -> pd.DataFrame:
    """All results of a study, by method, environment and seed."""
    tables = [pd.read_csv(path, float_precision="round_trip") for path in sorted(study.glob("*/results.csv"))]
    return pd.concat(tables).set_index(KEYS).sort_index()[MEASURES]


def compare(study: str, old: pd.DataFrame, new: pd.DataFrame, tolerance: float) -> bool:
    """Print how far two tables of results are apart, and whether that is within the tolerance."""
    if not old.index.equals(new.index):
        print(f"{study}: the rows are not the same: {len(old)} and {len(new)}")
        return False
    apart = (old - new).abs()
    unequal = (apart > 0) | (old.isna() != new.isna())
    print(f"{study}: {len(old)} rows, {int(unequal.to_numpy().sum())} of {old.size} numbers differ")
    for measure in MEASURES:
        if unequal[measure].any():
            where = sorted({f"{method}-{env}" for method, env, _ in apart.index[unequal[measure]]})
            print(f"  {measure}: by at most {apart[measure].max():.3g}, in {', '.join(where)}")
    return not bool(((apart > tolerance) | (old.isna() != new.isna())).to_numpy().any())


if __name__ == "__main__":
    main()
