"""What was measured as text for people. JSON is the same dictionaries as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

#: From this load on, in processes that ran in the minute before, other programs are in the way.
BUSY = 0.5

_HEADINGS = {
    "seeds": "seeds",
    "rate": "steps/s [min, max]",
    "seed_rate": "seed-steps/s",
    "gflops": "GFLOP/s",
    "share": "of peak",
    "plain": "plain",
    "times_plain": "ratio",
    "stacked": "stacked",
    "times_stacked": "ratio",
    "memory": "MiB",
    "first": "first step",
}

_TITLES = {
    "dpo": "Supervised step of DPO",
    "reward_model": "Supervised step of the reward model",
    "rl": "RL step",
    "evaluation": "Evaluation (a step is one evaluation of all seeds)",
}


def text(report: Row) -> str:
    """The whole report, as `command.measure` makes it."""
    parts = [_machine(report["machine"])]
    steps: Sequence[Row] = report.get("steps", [])
    for work in dict.fromkeys(row["work"] for row in steps):
        parts.append(f"{_TITLES[work]}\n{_table([_cells(row) for row in steps if row['work'] == work])}")
    if steps:
        parts.append(_LEGEND)
    if "comparison" in report:
        parts.append(_comparison(report["comparison"]))
    if "growth" in report:
        parts.append(_growth(report["growth"]))
    return "\n\n".join(parts)


_LEGEND = """\
Medians of repetitions. GFLOP/s counts matrix products; the share is of the best large matrix product beside the
same repetition. plain: seed-steps/s of one seed at a time (nn.Module, AdamW, DataLoader), with one thread or all of
them, whichever is faster; stacked: RL as bmm and autograd would have it, a whole pass for each token. MiB: peak memory
of the process. First step: from the first call in a process to the end of its first step, set-up included."""


def _machine(machine: Row) -> str:
    busy = bool(machine["load"] > BUSY)
    warning = f"\nBUSY: a load of {machine['load']:.1f} before the start, so other programs share in these times"
    return (
        f"{machine['device']}, {machine['threads']} threads, {machine['system']}; alignsim {machine['alignsim']}, "
        f"torch {machine['torch']}, Python {machine['python']}" + warning * busy
    )


def _cells(row: Row) -> dict[str, str]:
    """The cells of a row, by column."""
    rate = row["steps_per_second"]
    cells = {
        "seeds": str(row["seeds"]),
        "rate": f"{_number(rate['median'])} [{_number(rate['low'])}, {_number(rate['high'])}]",
        "seed_rate": _number(row["seed_steps_per_second"]["median"]),
        "gflops": _number(row["gflops"]["median"]),
        "share": f"{row['share_of_peak']['median']:.1%}",
        "plain": _number(row["plain"]["seed_steps_per_second"]["median"]),
        "times_plain": f"{row['times_plain']:.2f}",
    }
    if "stacked" in row:
        cells["stacked"] = _number(row["stacked"]["seed_steps_per_second"]["median"])
        cells["times_stacked"] = f"{row['times_stacked']:.2f}"
    return cells | {"memory": f"{row['peak_memory_mib']:.0f}", "first": f"{row['first_step_seconds']:.2f} s"}


def _comparison(row: Row) -> str:
    seconds, scaled = row["seconds"], ""
    if row["plain_seeds"] != row["seeds"]:
        scaled = f", in proportion from {row['plain_seeds']} of them"
    table = _table(
        [
            {"normalized value": name, "alignsim": f"{value:.3f}", "plain": f"{row['plain_values'][name]:.3f}"}
            for name, value in row["values"].items()
        ]
    )
    return (
        f"The default comparison, four runs of {row['seeds']} seeds: {row['command']}\n"
        f"alignsim, from the start of the process to its end: {seconds['median']:.1f} s "
        f"[{seconds['low']:.1f}, {seconds['high']:.1f}]\n"
        f"the plain way, {row['seeds']} seeds one at a time{scaled}: {row['plain_seconds']:.1f} s, "
        f"{row['times_plain']:.1f} times as long\n{table}\n"
        f"(means over the same {row['plain_seeds']} seeds; same worlds and pairs, other weights and minibatches)"
    )


def _growth(rows: Sequence[Row]) -> str:
    return "Growth\n" + _table(
        [
            {
                "axis": row["axis"],
                "size": str(row["value"]),
                "work": row["work"],
                "s/step": _number(row["seconds_per_step_median"]),
                "MiB": f"{row['peak_memory_mib']:.0f}",
            }
            for row in rows
        ]
    )


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Columns aligned to the right under their headings."""
    columns = [[_HEADINGS.get(name, name), *(row[name] for row in rows)] for name in rows[0]]
    padded = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join("  " + "  ".join(cells) for cells in zip(*padded, strict=True))


def _number(value: float) -> str:
    """About three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
