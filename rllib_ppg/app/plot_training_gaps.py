"""App: scores from the evaluations that training runs made, for the generalisation gap."""

from rllib_ppg.app.plot_evaluations import Score
from rllib_ppg.app.plot_runs import Note, Reading, find_results, read_curve, read_origin
from rllib_ppg.app.plot_tables import read_table
from rllib_ppg.envs.levels import UNSEEN
from rllib_ppg.errors import UserError

TRAIN = "evaluation/train_return"
COLUMNS = {levels: f"evaluation/{levels}_return" for levels in UNSEEN}


def read_training_gaps(given: str, note: Note, *, partial: bool = False) -> list[Score]:
    """Read the newest evaluation of each trial of a RUN.

    Trials without one are left out with a note.

    Args:
        given: The RUN.
        note: Told what is left out.
        partial: Leave out lines that are not whole.

    Raises:
        UserError: If nothing is there, a file is broken, or no trial has an evaluation on both
            training and unseen levels.
    """
    scores = []
    for path in find_results(given):
        names = read_table(path, partial=partial).names if path.stat().st_size else ()
        columns = {levels: name for levels, name in COLUMNS.items() if name in names}
        columns |= {"train": TRAIN} if TRAIN in names else {}
        curves = {
            levels: read_curve(path, Reading(y=name, note=note, partial=partial))
            for levels, name in columns.items()
        }
        newest = {levels: float(curve.y[-1]) for levels, curve in curves.items() if len(curve.y)}
        if "train" in newest and len(newest) > 1:
            scores.append(Score(read_origin(path), newest))
        else:
            note(f"{path} has no evaluation on training and unseen levels: left out.")
    if not scores:
        raise UserError(
            f"--kind gap needs results of evaluation, and {given} has none on both training and "
            "unseen levels: train with evaluation_interval, or give files of `rllib evaluate "
            "--out` or results of `rllib challenge`."
        )
    return scores
