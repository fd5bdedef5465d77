"""The default comparison from end to end: the command as a user gives it, and the same four runs in the plain way.

The plain way trains and evaluates; it draws no learning curves, saves nothing and measures nothing else.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from subprocess import DEVNULL, PIPE, run
from typing import Any

from alignsim.envs.simplified import SimplifiedEnvironment
from alignsim.methods.base import Method
from alignsim.methods.dpo import DPO
from alignsim.methods.rl.rloo import RLOO
from alignsim.methods.rlhf import RLHF
from alignsim.models.made import MADE
from alignsim.runs.condition import Condition

COMMAND = ("-m", "method=rlhf,dpo", "env=gap,no_gap")


class FailedError(RuntimeError):
    """A process of the benchmark failed; the text is what it said last."""


def train_command(seeds: int, device: str, threads: int | None, folder: str) -> float:
    """Give the command in a process of its own, into an empty folder; seconds from its start to its end."""
    more = [f"threads={threads}"] if threads else []
    start = [sys.executable, "-c", "from alignsim.cli.main import train; train()", *COMMAND]
    began = time.perf_counter()
    done = run(
        [*start, f"seeds.count={seeds}", f"device={device}", f"output_dir={folder}", *more],
        stdout=DEVNULL,
        stderr=PIPE,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise FailedError(done.stderr.strip() or f"the comparison ended with exit code {done.returncode}")
    return seconds


def normalized_values(folder: Path, seeds: int) -> dict[str, float]:
    """The normalized value of each condition below a folder of results, `method env`: the mean of its first seeds."""
    values = defaultdict(list)
    for path in folder.rglob("results.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if int(row["seed"]) < seeds:
                    values[f"{row['method']} {row['env']}"].append(float(row["normalized_value"]))
    return {name: mean(seed_values) for name, seed_values in sorted(values.items())}


def ours(
    seeds: int, device: str, threads: int | None, repetitions: int, compared: int
) -> tuple[list[float], dict[str, float]]:
    """The command, again and again: its seconds, and the normalized values of the seeds that are compared."""
    seconds = []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            seconds.append(train_command(seeds, device, threads, folder))
            values = normalized_values(Path(folder), compared)
    return seconds, values


def plain_way(seeds: int, device: str) -> dict[str, Any]:
    """The four runs of each of the first seeds, one after the other.

    Returns:
        `seconds` of each seed, all four runs of it; `values`, the mean normalized value of each condition.
    """
    values: dict[str, list[float]] = defaultdict(list)
    seconds = []
    for seed in range(seeds):
        began = time.perf_counter()
        for name, condition in conditions((seed,), device).items():
            values[name].append(plain_value(condition))
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "values": {name: mean(seed_values) for name, seed_values in sorted(values.items())}}


def conditions(seeds: tuple[int, ...], device: str) -> dict[str, Condition]:
    """The four conditions of the command, by `method env`."""
    methods: dict[str, Method] = {"rlhf": RLHF(), "dpo": DPO()}
    return {
        f"{method} {env}": Condition(
            methods[method], SimplifiedEnvironment(complexity_factor=factor, seeds=seeds, device=device)
        )
        for method in methods
        for env, factor in {"gap": 2.0, "no_gap": 1.0}.items()
    }


def plain_value(condition: Condition) -> float:
    """The normalized value of a policy that was trained in the plain way on the one seed of a condition."""
    from scripts.benchmarking import plain

    env, method, beta, network = condition.env, condition.method, condition.beta, condition.model.policy
    if not isinstance(network, MADE):
        raise TypeError(f"there is no plain way for {network}")
    if isinstance(method, RLHF) and isinstance(method.rl, RLOO):
        reward_model = plain.train_reward_model(env, method.reward_fit, beta, network)
        policy = plain.train_policy_with_rlhf(env, reward_model, method.rl, beta, network)
    elif isinstance(method, DPO):
        policy = plain.train_policy_with_dpo(env, method.policy_fit, beta, network)
    else:
        raise TypeError(f"there is no plain way for {method}")
    optimum = env.optimal_value(beta)
    assert optimum is not None
    return plain.policy_value(policy, env, beta, condition.evaluation) / float(optimum)
