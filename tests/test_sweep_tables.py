"""The tables of docs/sweeps.md."""

from pathlib import Path

from rllib_ppg.algorithm.tables import fill
from rllib_ppg.app.sweep_tables import DOCUMENT, tables

ROOT = Path(__file__).parents[1]


def test_the_document_holds_the_current_tables():
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    assert fill(text, tables()) == text, "run python -m rllib_ppg.app.sweep_tables"


def test_every_key_of_a_sweep_is_described():
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    from rllib_ppg.app.experiment import SWEEP_KEYS

    for key in (*SWEEP_KEYS, "max_concurrent_trials", "time_budget_s"):
        assert f"\n| `{key}` |" in text, key
