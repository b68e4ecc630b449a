"""App: writes a trial's results to its files, and keeps training where they cannot be written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rllib_ppg.app.result_files import ResultFiles
from rllib_ppg.app.tensorboard_log import TensorBoardLog


class TrialLog:
    """The files of one trial: result.json, progress.csv and TensorBoard's events.

    Args:
        folder: The trial's folder.
        config: The trial's configuration.
        warn: Told once when the files cannot be written, and once when they can again.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._writers: list[ResultFiles | TensorBoardLog] = [
            ResultFiles(folder, config),
            TensorBoardLog(folder),
        ]
        self._warn = warn
        self._failing = False

    def write(self, result: Mapping[str, Any]) -> None:
        """Append a result to all files."""
        error = None
        for writer in self._writers:
            try:
                writer.write(result)
            except OSError as reason:
                error = reason
        if error is not None and not self._failing:
            self._warn(f"results cannot be written ({_reason(error)}: {self._folder}); going on")
        if error is None and self._failing:
            self._warn(f"results are written again: {self._folder}")
        self._failing = error is not None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
