"""How long scripts/plot.py takes, and how much memory, for studies of many conditions of 16 seeds.

python -m scripts.measurements.aggregate 100 1000 10000
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from alignsim.config.dotted import flatten
from alignsim.evaluation.measures import DIVERGED, MEASURES
from alignsim.runs.storage.folder import RESULTS, STATUS
from alignsim.runs.storage.versions import CODE, CONDITION, RESULTS_VERSION
from alignsim.runs.train_config import TrainConfig, load
from tests.commands import start_afresh


def make_study(folder: Path, conditions: int, seeds: int = 16) -> None:
    """Make a study of made-up results: half RLHF, half DPO, over a grid of complexity factors and numbers of pairs."""
    rng = np.random.default_rng(0)
    for i in range(conditions):
        method = ("dpo", "rlhf")[i % 2]
        config = load(
            {
                "env": {"complexity_factor": 1 + (i // 2) % 50 / 10, "n_pairs": 1000 + i // 100},
                "method": {"_target_": f"alignsim.methods.{method}.{method.upper()}"},
            }
        )
        run = folder / f"{method}-gap-{config.hash}"
        run.mkdir(parents=True)
        (run / RESULTS).write_text("\n".join(results_lines(config, method, seeds, rng)) + "\n")
        (run / STATUS).write_text(json.dumps({"state": "finished"}))


def results_lines(config: TrainConfig, method: str, seeds: int, rng: np.random.Generator) -> list[str]:
    """The lines of the `results.csv` of a condition whose measures are random numbers."""
    values = flatten(config.identity)
    lines = [",".join(["method", "env", "seed", *MEASURES, *DIVERGED, *values, CONDITION, CODE])]
    for seed in range(seeds):
        numbers = map(str, rng.normal(0.5, 0.1, len(MEASURES)))
        stamps = [*map(str, values.values()), config.digest, str(RESULTS_VERSION)]
        lines.append(",".join([method, "gap", str(seed), *numbers, "False", "", "", *stamps]))
    return lines


def main() -> None:
    """Print one line for each number of conditions on the command line."""
    for conditions in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as place:
            make_study(Path(place) / "outputs" / "default", conditions)
            began = time.perf_counter()
            process = start_afresh("plot", cwd=place)
            _, status, usage = wait4(process)
            seconds = time.perf_counter() - began
            assert status == 0
            print(f"{conditions:>6} conditions: {seconds:6.1f} s, {usage.ru_maxrss / 1024:6.0f} MiB", flush=True)


def wait4(process) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a process; returns its id, its exit status and the resources that it used."""
    import os

    process.stdout.read()
    return os.wait4(process.pid, 0)


if __name__ == "__main__":
    main()
