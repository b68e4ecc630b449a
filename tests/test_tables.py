"""The documentation's tables."""

from pathlib import Path

import pytest

from rllib_ppg.algorithm.settings import PPGSettings
from rllib_ppg.algorithm.tables import fill, settings_table, table, tables

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", tables())
def test_documents_hold_the_current_tables(name: str) -> None:
    text = (ROOT / name).read_text()
    assert fill(text, tables()[name]) == text, "run python -m rllib_ppg.algorithm.tables"


def test_every_key_has_a_row_and_a_meaning() -> None:
    rows = settings_table(PPGSettings).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(PPGSettings.model_fields)
    assert all(row.split("|")[-2].strip() for row in rows)


def test_bars_in_cells_do_not_break_the_table() -> None:
    assert table(("a",), [("|x|",)]).splitlines()[-1] == r"| \|x\| |"


def test_missing_markers_are_an_error() -> None:
    with pytest.raises(ValueError, match="stand 0 times"):
        fill("no markers", {"settings": "x"})
