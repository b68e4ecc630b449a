"""Notebooks as files: valid, without outputs, and with commands that `rllib` understands."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_there_is_a_notebook_to_start_with():
    assert [path.name for path in NOTEBOOKS] == ["start.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_and_holds_no_output(path: Path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert max(map(len, cell.source.splitlines())) <= 105


def test_the_budget_can_be_lowered_and_the_experiment_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NOTEBOOK_STEPS", "64")
    monkeypatch.chdir(ROOT / "notebooks")
    namespace: dict = {}
    exec(code(NOTEBOOKS[0])[0], namespace)
    assert namespace["STEPS"] == 64 and namespace["EXPERIMENT"].is_file()
    monkeypatch.delenv("NOTEBOOK_STEPS")
    exec(code(NOTEBOOKS[0])[0], namespace)
    assert namespace["STEPS"] == 131_072 and namespace["MINUTES"] <= 30


def test_every_command_is_one_that_rllib_has():
    from rllib_ppg.app.cli import app

    commands = {command.callback.__name__ for command in app.registered_commands}
    calls = re.findall(r"rllib\(\s*f?\"(\w+) ", "\n".join(code(NOTEBOOKS[0])))
    assert len(calls) == 5 and set(calls) <= commands


def test_every_cell_is_python():
    for source in code(NOTEBOOKS[0]):
        ast.parse(source)
