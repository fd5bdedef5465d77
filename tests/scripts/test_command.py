"""The command as a user meets it, and the figure that it draws."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from alignsim.report.figures.style import use_house_style
from scripts.benchmarking import growth, growth_figure
from scripts.benchmarking.report import text
from tests.commands import command

TINY = ["--seeds", "2", "--only", "rl", "--repetitions", "2", "--seconds", "0.01", "--threads", "1"]
SPREADS = ["peak_gflops", "share_of_peak", "steps_per_second", "seed_steps_per_second", "gflops"]


def benchmark(*arguments):
    return subprocess.run(command("benchmark", *arguments), capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def report():
    done = benchmark(*TINY, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_json_has_every_field(report):
    (row,) = report["steps"]
    for spread in [
        *(row[name] for name in SPREADS),
        *(row[way]["seed_steps_per_second"] for way in ("plain", "stacked")),
    ]:
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    for name in ("peak_memory_mib", "first_step_seconds", "operations_per_seed_step"):
        assert row[name] > 0
    assert (row["work"], row["seeds"], row["stack"]) == ("rl", 2, 2)
    assert report["machine"]["threads"] == 1


@pytest.mark.slow
def test_ratios_are_of_the_rates(report):
    (row,) = report["steps"]
    rate = row["seed_steps_per_second"]["median"]
    assert rate == pytest.approx(2 * row["steps_per_second"]["median"])
    for way in ("plain", "stacked"):
        assert row[f"times_{way}"] == pytest.approx(rate / row[way]["seed_steps_per_second"]["median"])


@pytest.mark.slow
def test_people_read_the_same(report):
    assert "RL step" in text(report)
    assert f"{report['steps'][0]['times_plain']:.2f}" in text(report)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds", "0"], "0: must be a whole number"),
        (["--seconds", "nan"], "nan: must be a number above 0"),
        (["--only", "dop"], "invalid choice: 'dop'"),
        (["--repetition", "x"], "x: must be a whole number"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--device", "abacus"], "--device abacus"),
    ],
)
def test_bad_options_are_refused_in_one_line(arguments, told):
    done = benchmark(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.removeprefix("machine\n").splitlines()) == 1


def test_the_figure_of_growth_draws_every_point():
    use_house_style()
    table = pd.DataFrame(
        {"axis": p.axis, "value": p.value, "work": p.work, "peak_memory_mib": 300.0}
        | {f"seconds_per_step_{part}": p.value * 1e-5 for part in ("median", "low", "high")}
        for p in growth.points()
    )
    figure = growth_figure.draw(table, 16)
    figure.draw_without_rendering()
    drawn = [len(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_linestyle() == "-"]
    assert sum(drawn) == 2 * len(table)  # its time and its memory
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)
