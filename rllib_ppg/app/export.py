"""App: `rllib export`: the policy of a checkpoint as files that load without pickle and Ray.

Ray and torch are imported only when the checkpoint is read, so that a mistake is answered at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from rllib_ppg.algorithm.checkpoint_files import (
    MANIFEST,
    RLLIB_FILES,
    check_checkpoint,
    checkpoint_folders,
    checkpoint_path,
    newest_whole,
)
from rllib_ppg.errors import UserError
from rllib_ppg.spelling import did_you_mean

if TYPE_CHECKING:
    from rllib_ppg.core.policy_meta import PolicyMeta

FORMATS = ("safetensors",)

TRUST = (
    "Reading it unpickles it, which runs what it holds: export only checkpoints from sources that "
    "you trust. What is written loads without that."
)


def run_export(checkpoint: str, out: str, format: str, *, force: bool = False) -> int:
    """Export the policy of a checkpoint and say how to load it.

    Args:
        checkpoint: Folder of a checkpoint, of a trial, or of a run with one trial.
        out: Folder to write.
        format: One of `FORMATS`.
        force: Replace an earlier export.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If anything that was given is wrong; nothing has been written then.
    """
    if format not in FORMATS:
        hint = did_you_mean(format, FORMATS)
        raise UserError(f"--format {format}: unknown.{hint} Give {', '.join(FORMATS)}.")
    folder, passed_over = find_checkpoint(checkpoint)
    for _, reason in passed_over:
        print(f"Passing over a newer checkpoint. {reason}")
    print(f"Exporting {folder}\n{TRUST}")
    from rllib_ppg.algorithm import policy_export
    from rllib_ppg.core.exported import WEIGHTS, check_target, save_policy

    target = Path(out).expanduser().absolute()
    check_target(target, overwrite=force)
    policy, env_steps = policy_export.read_policy(folder)
    meta = policy_export.describe(policy, env_steps)
    try:
        save_policy(target, meta, policy_export.weights(policy), overwrite=force)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error}).") from error
    print(_report(target, meta, (target / WEIGHTS).stat().st_size))
    return 0


def find_checkpoint(given: str) -> tuple[Path, list[tuple[Path, str]]]:
    """Find the checkpoint that a folder is, or the newest usable one inside of it.

    Returns:
        The checkpoint, and newer ones that are broken, each with the reason.

    Raises:
        UserError: If there is none, or several trials have some.
    """
    folder = checkpoint_path(given)
    if not folder.is_dir():
        raise UserError(f"There is no checkpoint folder {given}.")
    if any((folder / name).exists() for name in (MANIFEST, *RLLIB_FILES)):
        check_checkpoint(folder)
        return folder, []
    found = newest_whole(_trial(folder))
    if found.path is None and not found.passed_over:
        raise UserError(f"{given} is no checkpoint folder and holds none.")
    if found.path is None:
        reasons = " ".join(reason for _, reason in found.passed_over)
        raise UserError(f"{given} holds no whole checkpoint. {reasons}")
    return found.path, found.passed_over


def _trial(folder: Path) -> Path:
    """The folder itself if checkpoints are in it, else its only trial's."""
    if checkpoint_folders(folder):
        return folder
    trials = sorted(path for path in folder.iterdir() if path.is_dir() and checkpoint_folders(path))
    if len(trials) > 1:
        names = ", ".join(path.name for path in trials)
        raise UserError(f"{folder} holds checkpoints of several trials; give one of them: {names}.")
    return trials[0] if trials else folder


def _report(folder: Path, meta: "PolicyMeta", size: int) -> str:
    observations = ", ".join(["N", *map(str, meta.observations.shape)])
    game = meta.env_options["env_name"] if meta.env == "procgen" else meta.env
    arguments, note = "obs", ""
    if meta.network.encoder.get("num_actions"):
        arguments = "obs, previous_actions"
        first = meta.env_actions.start[0]
        note = f"; previous_actions: (N,), {first} where an episode begins"
    return (
        f"\nWrote the policy ({game}, {meta.env_steps:,} environment steps, {size:,} bytes) "
        f"to {folder}\n\nLoad it where rllib_ppg, torch and safetensors are installed:\n\n"
        "  from rllib_ppg import load_policy\n"
        f"  policy = load_policy({str(folder)!r})\n"
        f"  actions = policy.act({arguments})  # obs: {meta.observations.dtype} ({observations})"
        f"{note}"
    )
