"""One row of the benchmark in a process of its own: a task as JSON goes in, what was measured comes out.

    python -m scripts.benchmarking.worker '{"kind": "machine", "device": "cpu", "threads": null}'

A process for each row, because peak memory and the first call can be had once in a process.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from alignsim.config.schema import Evaluation
from alignsim.config.version import VERSION
from alignsim.runs.hardware import prepare
from alignsim.runs.parallel import CONTEXT, Event, train_at_once
from scripts.benchmarking import comparison, plain, stacked
from scripts.benchmarking.sizes import Sizes, shares
from scripts.benchmarking.spread import Spread
from scripts.benchmarking.timing import Stopwatch, faster_threads, matrix_product_peak, now, peak_memory
from scripts.benchmarking.work import BETA, WORKS, rl_settings, supervised_settings

#: What a process is to measure, as JSON says it: see `measured`.
Task = Mapping[str, Any]

#: Of more stacks of a process than this only so many are timed: they are repetitions of one another.
MANY_STACKS = 4

#: More seeds than this are timed once.
MANY_SEEDS = 256


def measured(task: Task) -> dict[str, Any]:
    """Do what a task asks for.

    Args:
        task: `kind`, a key of `KINDS`; `device` and `threads`, null for as many as torch likes; and what it needs.
    """
    if task["kind"] == "machine":  # it says whether the device is there
        torch.set_num_threads(task["threads"] or torch.get_num_threads())
    elif task["kind"] in ("ours", "growth"):
        prepare(task["device"], None)
    else:  # the other ways may take all threads
        torch.set_num_threads(task["threads"] or torch.get_num_threads())
    return KINDS[task["kind"]](task)


def machine(task: Task) -> dict[str, Any]:
    """What the benchmark runs on; `load`, how many processes ran in the last minute; `problem`, why it cannot run."""
    problem = None
    try:
        torch.zeros(1, device=task["device"])
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        problem = str(error).partition("\n")[0]
    return {
        "problem": problem,
        "device": device_name(task["device"]),
        "threads": torch.get_num_threads(),
        "alignsim": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
    }


def device_name(device: str) -> str:
    """The device, and the name of a GPU."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


def ours(task: Task) -> dict[str, Any]:
    """Steps of alignsim on S seeds: rates, arithmetic and its share of the peak, memory, time to the first step.

    Processes that train at once take every stretch of steps, and the peak beside it, at the same time; their rates
    and peaks add up.
    """
    sizes, work, seeds, repetitions = Sizes(), WORKS[task["work"]], task["seeds"], task["repetitions"]
    processes = shares(seeds, task["device"], task["threads"])
    parts = _at_once(_ours_in_process, task, processes)
    counts = [sum(map(len, stacks)) for stacks in processes]
    each = [
        seeds / sum(count / part["seconds"][i] for count, part in zip(counts, parts, strict=True))
        for i in range(repetitions)
    ]
    peaks = [sum(part["peaks"][i] for part in parts) for i in range(repetitions)]
    operations = work.operations(sizes)
    return {
        "processes": len(processes),
        "stack": len(processes[0][0]),
        "timed_steps": parts[0]["steps"],
        "steps_per_second": rates(each),
        "seed_steps_per_second": rates(each, seeds),
        "operations_per_seed_step": operations,
        "gflops": rates(each, seeds * operations / 1e9),
        "peak_gflops": asdict(Spread.from_values(peak / 1e9 for peak in peaks)),
        "share_of_peak": asdict(
            Spread.from_values(seeds * operations / s / peak for s, peak in zip(each, peaks, strict=True))
        ),
        "peak_memory_mib": sum(part["memory"] for part in parts),
        "first_step_seconds": max(part["first_step"] for part in parts),
    }


def _ours_in_process(task: Task, stacks: list[range], meet: Callable[[], object]) -> dict[str, Any]:
    """What one of the processes measures of its stacks of seeds; `meet` waits for the others."""
    sizes, work, device = Sizes(), WORKS[task["work"]], task["device"]
    first_step = work.first_step(sizes, stacks[0], device)
    steps = work.steps_for(sizes, stacks, device, task["seconds"])
    memory = peak_memory(device)  # before the large matrices; all stacks need the same
    peaks: list[list[float]] = [[] for _ in range(task["repetitions"])]

    def peak(repetition: int) -> None:  # beside every stretch: a program that slows down one slows down the other
        meet()
        peaks[repetition].append(matrix_product_peak(device))

    for repetition in range(task["repetitions"]):
        peak(repetition)
    several = min(len(stacks), MANY_STACKS)  # of many stacks some are enough: they are repetitions of one another
    each = work.seconds_per_step(sizes, stacks[:several], device, task["repetitions"], steps, meet, peak)
    seconds = [total * len(stacks) / several for total in each]
    return {
        "seconds": seconds,
        "peaks": [max(beside) for beside in peaks],
        "steps": steps,
        "memory": memory,
        "first_step": first_step,
    }


def growth(task: Task) -> dict[str, Any]:
    """Seconds for a step of all seeds of given sizes, and the peak memory of the processes that take it."""
    processes = shares(task["seeds"], task["device"], task["threads"])
    parts = _at_once(_growth_in_process, task, processes)
    slowest = [max(part["seconds"][i] for part in parts) for i in range(len(parts[0]["seconds"]))]
    return {"seconds_per_step": asdict(Spread.from_values(slowest)), "peak_memory_mib": sum(p["memory"] for p in parts)}


def _growth_in_process(task: Task, stacks: list[range], meet: Callable[[], object]) -> dict[str, Any]:
    sizes, work, device = Sizes(**task["sizes"]), WORKS[task["work"]], task["device"]
    steps = work.block if len(stacks) > 1 else work.steps_for(sizes, stacks, device, task["seconds"])
    repetitions = 1 if task["seeds"] > MANY_SEEDS else task["repetitions"]
    each = work.seconds_per_step(sizes, stacks, device, repetitions, steps)
    return {"seconds": each, "memory": peak_memory(device)}


def _at_once(
    measure: Callable[[Task, list[range], Callable[[], object]], dict[str, Any]],
    task: Task,
    processes: list[list[range]],
) -> list[dict[str, Any]]:
    """What processes measure at once, each of its own stacks of seeds."""
    barrier, results = CONTEXT.Barrier(len(processes)), dict[int, dict[str, Any]]()
    tell = partial(_measure_one, measure, task, processes, barrier.wait)
    train_at_once([[i] for i in range(len(processes))], tell, lambda i, event: results.update({i: event[1]}))
    return [results[i] for i in range(len(processes))]


def _measure_one(
    measure: Callable[[Task, list[range], Callable[[], object]], dict[str, Any]],
    task: Task,
    processes: list[list[range]],
    meet: Callable[[], object],
    number: Sequence[int],
    tell: Callable[[Event], None],
) -> None:
    tell(("measured", measure(task, processes[number[0]], meet)))


def plain_way(task: Task) -> dict[str, Any]:
    """Steps of the plain way on one seed, with one thread or with all of them: the faster."""
    run, block = plain_steps(task["work"], task["device"]), WORKS[task["work"]].block
    threads = faster_threads(lambda: run(2 * block))
    steps = block * max(round(task["seconds"] / run(block) / block), 1)
    each = [run(steps) for _ in range(task["repetitions"])]
    return {
        "seed_steps_per_second": rates(each),
        "threads": threads,
        "peak_memory_mib": peak_memory(task["device"]),
    }


def plain_comparison(task: Task) -> dict[str, Any]:
    """The four runs in the plain way, with one thread or with all of them: the faster."""
    device = task["device"]
    threads = faster_threads(lambda: sum(plain_steps(work, device)(100) for work in ("dpo", "rl")))
    return {"threads": threads, **comparison.plain_way(task["seeds"], device)}


def plain_steps(work: str, device: str) -> Callable[[int], float]:
    """How to take steps of one seed in the plain way; seconds for each."""
    env, network = Sizes().env([0], device), Sizes().network
    if work == "evaluation":
        return partial(_plain_evaluations, plain.PlainMADE(env, network, torch.Generator().manual_seed(0)), env)

    def run(steps: int) -> float:
        watch = Stopwatch(device)
        if work == "rl":
            reward_model = plain.PlainMADE(env, network, torch.Generator().manual_seed(0))
            plain.train_policy_with_rlhf(env, reward_model, rl_settings(steps), BETA, network, watch.tick)
        else:
            train = plain.train_policy_with_dpo if work == "dpo" else plain.train_reward_model
            train(env, supervised_settings(steps), BETA, network, watch.tick)
        return watch.seconds_per_step()

    return run


def _plain_evaluations(policy: plain.PlainMADE, env: Any, steps: int) -> float:
    began = now(env.device)
    for _ in range(steps):
        plain.policy_value(policy, env, BETA, Evaluation())
    return (now(env.device) - began) / steps


def stacked_rl(task: Task) -> dict[str, Any]:
    """RL steps of the straightforward stack of S seeds."""
    sizes, device = Sizes(), task["device"]
    env = sizes.env(range(task["seeds"]), device)

    def run(steps: int) -> float:
        watch = Stopwatch(device)
        stacked.train_policy_with_rlhf(env, rl_settings(steps), BETA, sizes.network, watch.tick)
        return watch.seconds_per_step()

    block = WORKS["rl"].block
    steps = block * max(round(task["seconds"] / run(block) / block), 1)
    each = [run(steps) for _ in range(task["repetitions"])]
    return {"seed_steps_per_second": rates(each, task["seeds"]), "peak_memory_mib": peak_memory(device)}


def rates(seconds: list[float], times: float = 1.0) -> dict[str, float]:
    """The spread of `times` / seconds."""
    return asdict(Spread.from_values(times / each for each in seconds))


#: What a task can be.
KINDS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "machine": machine,
    "ours": ours,
    "plain": plain_way,
    "stacked_rl": stacked_rl,
    "growth": growth,
    "plain_comparison": plain_comparison,
}


def main() -> None:
    """Measure, and print the result on one line."""
    json.dump(measured(json.loads(sys.argv[1])), sys.stdout)
    print()


if __name__ == "__main__":
    main()
