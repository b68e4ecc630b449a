"""The starter notebook, from top to bottom with a small budget; `test_notebooks.py` reads it."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "start.ipynb"


def test_the_starter_notebook_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    budget = {"STEPS": "4096", "MINUTES": "10", "EPISODES": "8", "RESULTS": str(tmp_path)}
    for name, value in budget.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=1500, kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )  # fmt: skip
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "notebook-" in text and ": done" in text and "agent  " in text and "random " in text
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert "image/png" in shown and "image/gif" in shown
    (run,) = tmp_path.iterdir()
    assert {"agent.json", "random.json", "curve.png", "agent.gif"} <= {
        p.name for p in run.iterdir()
    }
