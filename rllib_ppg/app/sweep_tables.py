"""App: the tables of docs/sweeps.md, made from where the keys are defined.

`python -m rllib_ppg.app.sweep_tables` writes them between the document's markers.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rllib_ppg.algorithm.tables import fill, table
from rllib_ppg.app.schedulers import MODELS
from rllib_ppg.app.searchers import OTHERS, OWN
from rllib_ppg.app.spaces import CHOICE, GRID, RANGES

DOCUMENT = "docs/sweeps.md"


def space_rows() -> list[tuple[str, ...]]:
    """How each kind of space is written and what it gives."""
    rows: list[tuple[str, ...]] = [
        (f"`{{{name}: {k.arguments}}}`", f"{k.meaning}") for name, k in RANGES.items()
    ]
    rows.append((f"`{{{CHOICE}: [value, ...]}}`", "one of them, each as likely"))
    rows.append((f"`{{{GRID}: [value, ...]}}`", "all of them, a trial for each"))
    return rows


def model_rows(models: Any) -> list[tuple[str, ...]]:
    """The arguments of each type."""
    rows: list[tuple[str, ...]] = []
    for name, model in models.items():
        rows.append((f"`{name}`", "", "", str(model.__doc__).strip()))
        rows += [("", f"`{key}`", _default(field), text) for key, field, text in _fields(model)]
    return rows


def _fields(model: type[BaseModel]) -> list[tuple[str, Any, str]]:
    fields = model.model_fields.items()
    return [(name, field, field.description or "") for name, field in fields if name != "type"]


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "must be given"
    if field.default is None:
        return "`null`"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def tables() -> dict[str, str]:
    """Every table by the name of its markers."""
    searchers = model_rows(OWN)
    searchers.append(
        (
            ", ".join(f"`{name}`" for name in OTHERS),
            "Tune's",
            "",
            "By name, if their "
            "package is installed; arguments as Ray Tune names them. Not tried here.",
        )
    )
    head = ("Type", "Argument", "Default", "Meaning")
    return {
        "spaces": table(("Space", "Value"), space_rows()),
        "schedulers": table(head, model_rows(MODELS)),
        "searchers": table(head, searchers),
    }


def main(root: Path = Path()) -> None:
    """Rewrite the tables."""
    path = root / DOCUMENT
    path.write_text(fill(path.read_text(encoding="utf-8"), tables()), encoding="utf-8")


if __name__ == "__main__":
    main()
