"""Algorithm: RLlib's ways to load a checkpoint, which here look at it first."""

from collections.abc import Mapping
from typing import Any

from rllib_ppg._ray_compat import Algorithm
from rllib_ppg.algorithm import trial_checkpoints
from rllib_ppg.algorithm.checkpoint_files import check_checkpoint, checkpoint_path
from rllib_ppg.errors import UserError

# Set by Tune's `restore` before it looks at the checkpoint.
_RESET_BY_TUNE = (
    "_iteration",
    "_time_total",
    "_time_since_restore",
    "_iterations_since_restore",
    "_timesteps_total",
    "_timesteps_since_restore",
    "_episodes_total",
)


class CheckedRestore(Algorithm):
    """An algorithm that refuses what is no whole checkpoint of it before it changes anything."""

    _notices: list[str]
    _summary_checked: Mapping[str, Any] | None = None
    """Summary of the checkpoint that `restore` has just checked; it may be large to read."""

    @classmethod
    def from_checkpoint(cls, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Make the algorithm of a checkpoint; it is unpickled, so only from sources you trust.

        `Algorithm.from_checkpoint` unpickles the configuration before it comes here; this checks a
        checkpoint on this machine before that.

        Raises:
            UserError: If it is broken, or not one of PPG.
        """
        if not _is_remote(path):
            path = str(checkpoint_path(path))
            check_checkpoint(path)
        return super().from_checkpoint(path, *args, **kwargs)

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a checkpoint; it is unpickled, so only from sources you trust.

        Of a Tune trial's checkpoints, a broken one is passed over for the newest whole one before.

        Raises:
            UserError: If it is broken or does not fit this configuration. Nothing has changed where
                its manifest, sizes or checksums say so; where only what was unpickled does, the
                algorithm is not to be used any more.
        """
        found = trial_checkpoints.whole(checkpoint_path)
        before = {name: value for name, value in vars(self).items() if name in _RESET_BY_TUNE}
        self._summary_checked = found.summary
        try:
            super().restore(found.result)
        except UserError:
            self.__dict__.update(before)
            raise
        finally:
            self._summary_checked = None
        self._notices += found.notices

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint; RLlib's `from_checkpoint` calls this."""
        self.load_checkpoint(str(path))


def _is_remote(source: Any) -> bool:
    """Whether a checkpoint stands elsewhere: an address, or an object with its own filesystem."""
    filesystem = getattr(source, "filesystem", None)
    return "://" in str(source) or (
        filesystem is not None and getattr(filesystem, "type_name", "local") != "local"
    )
