"""The files of a run: whole or not there, merged by seed, never read when damaged."""

import csv
import importlib
import math
import statistics

import pandas as pd
import pytest
import torch

from alignsim.evaluation.measures import MEASURES
from alignsim.runs.storage.atomic import CorruptFileError, write_atomically
from alignsim.runs.storage.table import SHOWN, Table, join_by_seed, mean_regret, parse_results, results_table
from alignsim.runs.storage.tensors import stacked
from alignsim.runs.storage.versions import RESULTS_VERSION, code_stamp


def content(seeds, columns=("method", "env", "seed", *MEASURES, "code")):
    cells = {"method": "dpo", "env": "a, b", "code": str(RESULTS_VERSION)} | dict.fromkeys(MEASURES, "0.5")
    table = pd.DataFrame([[cells.get(c, str(seed)) for c in columns] for seed in seeds], columns=list(columns))
    return table.to_csv(index=False, quoting=csv.QUOTE_MINIMAL).encode()


def test_rows_are_read_as_they_were_written():
    table = parse_results(content([3, 1]))
    assert list(table.rows) == [3, 1]
    assert table.column("env") == {3: "a, b", 1: "a, b"}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda good: b"", "cut short"),
        (lambda good: good[:-1], "cut short"),
        (lambda good: good[:-9] + b"\n", "a line has not"),
        (lambda good: good.replace(b"regret", b"egret", 1), "column regret is missing"),
        (lambda good: good.replace(b"0.5", b"0.x5", 1), "could not convert"),
        (lambda good: good + good.splitlines()[-1] + b"\n", "a seed has two lines"),
        (lambda good: good.replace(b"dpo", b"d\xffo", 1), "decode"),
        (lambda good: good.replace(b",1,", b",one,", 1), "'one' is no seed"),
        (lambda good: good.replace(b",1,", b",1_0,", 1), "'1_0' is no seed"),
        (lambda good: good.replace(b"0.5", b"0_5", 1), "'0_5' is no number"),
        (lambda good: good.replace(b"0.5", b"nan", 1), "'nan' is no number"),
        (lambda good: good.replace(b"dpo", b'"dpo', 1), "expected after"),
        (lambda good: b"\x00" * 99 + b"\n", "."),
    ],
)
def test_damaged_rows_are_refused(damage, told):
    with pytest.raises(CorruptFileError, match=told):
        parse_results(damage(content([0, 1])))


def test_no_cut_is_taken_for_a_whole_table():
    good = content([0, 1, 2])
    wholes = {0, 1, 2}
    for end in range(len(good)):
        try:
            found = set(parse_results(good[:end]).rows)
        except CorruptFileError:
            continue
        assert found < wholes, "at the end of a line: those seeds are whole, the others are trained again"
        assert good[:end].endswith(b"\n")


def test_an_error_while_writing_leaves_every_file_as_it_was(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write_atomically({a: lambda path: path.write_text("old"), b: lambda path: path.write_text("old")})

    def fail(path):
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically({a: lambda path: path.write_text("new"), b: fail})
    assert a.read_text() == b.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_tables_are_joined_by_seed_and_the_later_one_counts():
    older = pd.DataFrame({"seed": ["10", "2"], "x": ["a", "b"]})
    newer = pd.DataFrame({"seed": ["2", "2", "3"], "x": ["c", "d", "e"]})
    assert join_by_seed([older, newer]).to_dict("list") == {"seed": ["2", "2", "3", "10"], "x": ["c", "d", "e", "a"]}


def test_weights_are_stacked_by_seed_and_the_newer_ones_count():
    def weights(seeds, value):
        return {"seeds": seeds, "policy": {"w": torch.tensor([[value + seed] for seed in seeds])}}

    both = stacked(weights([5, 0], 100), weights([3, 0], 200))
    assert both["seeds"] == [0, 3, 5]
    assert both["policy"]["w"].flatten().tolist() == [200, 203, 105]


def regrets(*values, diverged=()):
    """Rows of seeds with the same number in every measure that is shown, NaN where it is None."""
    columns = [*SHOWN, "value", "diverged", "diverged_stage", "diverged_step"]
    cells = [[*["" if value is None else str(value)] * len(SHOWN), "0.5"] for value in values]
    ends = [["True", "rl", "7"] if seed in diverged else ["False", "", ""] for seed in range(len(values))]
    return Table(columns, {seed: [*cells[seed], *ends[seed]] for seed in range(len(values))})


def test_the_table_of_a_run_is_of_seeds_that_count():
    """Mean and standard error over the seeds that did not diverge."""
    values = [0.1, 0.4, 0.35, 9.0, 0.2]
    header, *lines = results_table(regrets(*values, diverged=[3]), range(5))
    kept = [value for value in values if value != 9.0]
    assert header.split() == ["mean", "standard", "error", "(4", "seeds)"]
    error = statistics.stdev(kept) / math.sqrt(4)
    told = dict(line.split(None, 1) for line in lines[:-1])
    assert list(told) == list(SHOWN)
    assert told["regret"].split() == [f"{statistics.fmean(kept):.3f}", f"{error:.3f}"]
    assert lines[-1] == "diverged and left out of these means: seed 3 (rl, step 7)"


def test_a_value_that_is_no_number_does_not_count():
    """It counts no more than a seed that diverged."""
    table = regrets(0.1, 0.2, 0.4)
    table.rows[1][table.columns.index("value")] = ""
    table.rows[2][table.columns.index("value")] = "inf"
    header, *_, last = results_table(table, range(3))
    assert header.endswith("standard error (1 seed)")
    told = "seed 1 (its value is not finite), 2 (its value is not finite)"
    assert last == f"diverged and left out of these means: {told}"
    assert math.isnan(mean_regret(table, range(3)))


def test_a_mean_that_rounds_to_0_has_no_sign():
    lines = results_table(regrets(-0.0001, -0.0002), range(2))
    assert ["regret", "0.000"] in [line.split()[:2] for line in lines]


def test_one_seed_has_no_standard_error():
    """And a measure without numbers has no line."""
    header, *lines = results_table(regrets(0.25, None), [0])
    assert header.endswith("standard error (1 seed)")
    assert [line.split()[1:] for line in lines] == [["0.250", "-"]] * len(SHOWN)
    assert results_table(regrets(0.25, None), [1])[1:] == []


def test_a_condition_has_a_mean_regret_where_every_seed_counts():
    assert mean_regret(regrets(1.0, 2.0, 6.0), [0, 1, 2]) == 3.0
    assert mean_regret(regrets(1.0, 2.0, 6.0, diverged=[1]), [0, 2]) == 3.5
    assert math.isnan(mean_regret(regrets(1.0, 2.0, 6.0, diverged=[1]), [0, 1, 2]))


def test_the_stamp_of_alignsims_own_code_is_a_version_alone():
    from alignsim.runs.train_config import load

    config = load({"method": {"_target_": "alignsim.methods.rlhf.RLHF"}})
    assert code_stamp([config.env, config.model, config.method]) == str(RESULTS_VERSION)


def test_the_stamp_tells_of_a_users_network_too(tmp_path, monkeypatch):
    from alignsim.models.config import ModelConfig, RewardModelConfig

    text = "from alignsim.models.made import MADE\nclass Wide(MADE): pass\n"
    (tmp_path / "my_network.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    network = importlib.import_module("my_network").Wide()
    for model in (ModelConfig(network), ModelConfig(reward=RewardModelConfig(network=network))):
        assert code_stamp([model]).startswith(f"{RESULTS_VERSION} my_network.py:")
