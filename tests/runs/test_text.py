"""Text that people read: aligned tables, ranges of seeds, times."""

import pytest

from alignsim.runs.text import counted, duration, format_seed_ranges, format_table, three_decimals


def test_columns_are_aligned_and_numbers_to_the_right():
    lines = format_table([("a", "-0.5", "x"), ("bcd", "10", "y"), ("e", "-", "")], ("n", "v", "w")).splitlines()
    assert lines == ["n       v  w", "a    -0.5  x", "bcd    10  y", "e       -"]


def test_a_string_is_a_line_that_widens_no_column():
    lines = format_table([("a", "b"), "a long remark", ("c",)], indent=2).splitlines()
    assert lines == ["  a  b", "  a long remark", "  c"]


def test_a_table_without_rows():
    assert format_table([]) == ""
    assert format_table([], ("a", "b")) == "a  b"


@pytest.mark.parametrize(
    ("seeds", "text"), [(range(64), "0 to 63"), ([4], "4"), ([0, 1, 5, 6, 7], "0, 1, 5 to 7"), ([], "")]
)
def test_seeds_are_written_as_ranges(seeds, text):
    assert format_seed_ranges(seeds) == text


def test_times_and_numbers():
    assert [duration(s) for s in (0.04, 9.99, 59.7, 61, 3725)] == [
        "0.0 s",
        "10.0 s",
        "1 min 0 s",
        "1 min 1 s",
        "1 h 2 min",
    ]
    assert [three_decimals(x) for x in (-0.0002, 0.0005, 2)] == ["0.000", "0.001", "2.000"]
    assert [counted(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
