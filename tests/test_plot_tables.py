"""Results files are read as Tune writes them; lines that are not whole are never taken as whole."""

import json
from pathlib import Path

import numpy as np
import pytest
from plot_files import COLUMNS, rows, write_csv

from rllib_ppg.app.plot_tables import nearest_columns, read_table
from rllib_ppg.errors import UserError


def test_a_csv_gives_its_columns_and_nan_for_what_is_empty(tmp_path: Path):
    path = write_csv(
        tmp_path / "p.csv", [["", 1, "True"], ["nan", 2, "None"], [3.5, 4, "False"]], "abc"
    )
    table = read_table(path)
    assert np.array_equal(table.column("a"), [np.nan, np.nan, 3.5], equal_nan=True)
    assert np.array_equal(table.column("c"), [1, np.nan, 0], equal_nan=True)


def test_fields_with_commas_quotes_and_line_separators_are_one_field(tmp_path: Path):
    path = write_csv(tmp_path / "p.csv", [["[1, 2]", 'say "x"\u2028\x0b', 7]], "abc")
    assert read_table(path).column("c").tolist() == [7]


def test_nested_json_is_flattened_with_slashes(tmp_path: Path):
    path = tmp_path / "result.json"
    path.write_text('{"a": {"b": NaN, "c": {"d": 2}}}\n{"a": {"b": 1.5}}\n')
    table = read_table(path)
    assert np.array_equal(table.column("a/b"), [np.nan, 1.5], equal_nan=True)
    assert np.array_equal(table.column("a/c/d"), [2, np.nan], equal_nan=True)


def test_wherever_a_csv_is_cut_its_last_line_is_refused_or_left_out(tmp_path: Path):
    whole = write_csv(tmp_path / "p.csv", rows([1.25, 2.5])).read_bytes()
    first = whole.index(b"\n") + 1
    second = whole.index(b"\n", first) + 1
    for end in range(second + 1, len(whole) - 1):
        (tmp_path / "cut.csv").write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"ends in the middle of line 3.*--partial"):
            read_table(tmp_path / "cut.csv")
        table = read_table(tmp_path / "cut.csv", partial=True)
        assert table.column(COLUMNS[0]).tolist() == [1.25] and list(table.left_out) == [3]


def test_wherever_json_lines_are_cut_the_last_one_is_refused_or_left_out(tmp_path: Path):
    lines = [json.dumps({"a": {"b": k}}) + "\n" for k in (1, 2)]
    for end in range(1, len(lines[1]) - 2):
        (tmp_path / "result.json").write_text(lines[0] + lines[1][:end])
        with pytest.raises(UserError, match="ends in the middle of line 2"):
            read_table(tmp_path / "result.json")
        table = read_table(tmp_path / "result.json", partial=True)
        assert table.column("a/b").tolist() == [1]


def test_a_line_that_a_resumed_run_wrote_behind_a_cut_one_is_refused_or_left_out(tmp_path: Path):
    path = write_csv(tmp_path / "p.csv", rows([1, 2, 3, 4]))
    lines = path.read_bytes().split(b"\r\n")
    merged = [*lines[:2], lines[2][:4] + lines[3], *lines[4:]]
    path.write_bytes(b"\r\n".join(merged))
    with pytest.raises(UserError, match=r"line 3 has .* fields where the header has 4"):
        read_table(path)
    assert read_table(path, partial=True).column(COLUMNS[0]).tolist() == [1, 4]


@pytest.mark.parametrize("content", [b"", b"a,b", b"a,b\r\n", b"\xff\xfe\x00", b"a,b\r\n1"])
def test_a_file_without_a_whole_row_is_refused_even_if_partial(tmp_path: Path, content: bytes):
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"p\.csv"):
        read_table(tmp_path / "p.csv", partial=True)


def test_text_where_a_number_is_needed_is_refused_with_its_place(tmp_path: Path):
    table = read_table(write_csv(tmp_path / "p.csv", [[1], ["soon"]], "a"))
    with pytest.raises(UserError, match=r"line 3.*'soon'"):
        table.column("a")


def test_of_repeated_iterations_the_later_count_and_those_lost_are_gone(tmp_path: Path):
    # Killed after iteration 5; resumed from the checkpoint of iteration 2, then killed after 4.
    values = [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50), (3, 33), (4, 44)]
    path = write_csv(tmp_path / "p.csv", values, ["training_iteration", "y"])
    assert read_table(path).current().column("y").tolist() == [10, 20, 33, 44]


def test_near_columns_are_found_by_the_end_of_their_path():
    names = ["a/policy_phase/entropy", "a/entropy_coeff", "time_total_s"]
    assert nearest_columns("entropi", names)[0] == "a/policy_phase/entropy"
    assert nearest_columns("total", names) == ["time_total_s"]
    assert nearest_columns("zzz", names) == []
