"""Algorithm: the documentation's tables, made from where keys and metrics are defined.

`python -m rllib_ppg.algorithm.tables` writes them between the markers of `README.md` and
`docs/metrics.md`; a test fails when they are out of date.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from rllib_ppg.algorithm.metrics import EVALUATION, METRICS
from rllib_ppg.algorithm.model_settings import EncoderSettings, ImpalaSettings, MLPSettings
from rllib_ppg.algorithm.settings import PPGSettings


def settings_table(settings: type[BaseModel]) -> str:
    """A Markdown table of a settings class: key, default, meaning."""
    rows = [
        (f"`{name}`", f"`{field.default!r}`", field.description or "")
        for name, field in settings.model_fields.items()
    ]
    return table(("Key", "Default", "Meaning"), rows)


def metrics_table(metrics: Mapping[str, str]) -> str:
    """A Markdown table of metrics: name, meaning."""
    return table(("Metric", "Meaning"), [(f"`{name}`", text) for name, text in metrics.items()])


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def tables() -> dict[str, dict[str, str]]:
    """Every generated table by file and by the name of its markers."""
    return {
        "README.md": {
            "settings": settings_table(PPGSettings),
            "ppg_impala": settings_table(ImpalaSettings),
            "ppg_mlp": settings_table(MLPSettings),
            "ppg_encoder": settings_table(EncoderSettings),
        },
        "docs/metrics.md": {
            "metrics": metrics_table(METRICS),
            "evaluation": metrics_table(EVALUATION),
        },
    }


def fill(text: str, contents: dict[str, str]) -> str:
    """Put each table between its `<!-- name -->` and `<!-- /name -->` markers.

    Raises:
        ValueError: If a marker is missing.
    """
    for name, content in contents.items():
        pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
        escaped = content.replace("\\", r"\\")
        text, count = re.subn(pattern, f"{escaped}\n", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"the markers of the table {name!r} stand {count} times, not once")
    return text


def main(root: Path = Path()) -> None:
    """Rewrite the tables of all documents below `root`."""
    for name, contents in tables().items():
        path = root / name
        path.write_text(fill(path.read_text(), contents))


if __name__ == "__main__":
    main()
