"""App: the evaluations of a challenge, each kept in a file as `rllib evaluate` writes it.

So an interrupted challenge plays only what is missing, and any of them can be read by itself.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from rllib_ppg.app import cluster
from rllib_ppg.app.challenge_disk import Trained
from rllib_ppg.app.challenge_protocol import Protocol, levels_of
from rllib_ppg.app.evaluate_command import make_plan, play, result_document
from rllib_ppg.app.evaluate_flags import EvaluateFlags
from rllib_ppg.app.evaluate_result import write
from rllib_ppg.app.plot_evaluations import EVALUATION, read_document
from rllib_ppg.errors import UserError

FOLDER = "evaluations"


class PlayedHow(BaseModel):
    """The settings of an evaluation that a challenge looks at."""

    game: str
    levels: str
    seed: int
    temperature: FiniteFloat


class Summary(BaseModel):
    """The summary of an evaluation."""

    mean: FiniteFloat
    stderr: FiniteFloat | None
    num_episodes: int = Field(ge=1)
    length_mean: FiniteFloat


class Evaluation(BaseModel):
    """An evaluation's file, as far as a challenge reads it."""

    checkpoint: str
    env_steps_trained: int
    versions: dict[str, Any]
    settings: PlayedHow
    summary: Summary


class Job(NamedTuple):
    """One evaluation that is to be played.

    Attributes:
        track: The track.
        trained: Who plays.
        levels: Which levels.
        path: The file that it goes to.
    """

    track: str
    trained: Trained
    levels: str
    path: Path

    @property
    def title(self) -> str:
        """What it is called."""
        one = self.trained
        return f"{self.track}, {one.game}, seed {one.seed}, {self.levels} levels"


def evaluation_path(folder: Path, track: str, game: str, seed: int, levels: str) -> Path:
    """The file of an evaluation in a challenge's folder."""
    return folder / FOLDER / f"{track}-{game}-seed{seed}-{levels}.json"


def read_evaluation(path: Path) -> Evaluation | None:
    """Return the content of an evaluation's file; None where there is none or it is broken.

    Raises:
        UserError: If it is of a version that is not known.
    """
    content = read_document(path)
    if content is None or content["format"] != EVALUATION:
        return None
    try:
        return Evaluation(**content)
    except ValidationError:
        return None


def why_missing(
    found: Evaluation | None, path: Path, trained: Trained, levels: str, protocol: Protocol
) -> str:
    """Why an evaluation is not the one that a protocol wants of a trial; empty where it is.

    Args:
        found: What was read from its file.
        path: The file.
        trained: The trial; its folder may have moved.
        levels: Which levels are wanted.
        protocol: Episodes and seed.
    """
    if found is None:
        return f"{path.name} is broken" if path.exists() else f"not evaluated on {levels} levels"
    of_trial = Path(found.checkpoint).parent.name == trained.folder.name
    if not of_trial or found.env_steps_trained != trained.env_steps:
        return f"evaluated on {levels} levels at another checkpoint than its last one"
    played, summary = found.settings, found.summary
    was = (played.game, played.levels, summary.num_episodes, played.seed)
    wanted = (trained.game, levels, protocol.episodes, protocol.evaluation_seed)
    if was != wanted:
        names = ("game", "levels", "episodes", "evaluation_seed")
        changes = [
            f"{name} {old}, not {new}"
            for name, old, new in zip(names, was, wanted, strict=True)
            if old != new
        ]
        return f"{path.name} was played with other settings ({'; '.join(changes)})"
    return ""


def missing_jobs(
    folder: Path, track: str, trained: Sequence[Trained], protocol: Protocol
) -> list[Job]:
    """Return what is still to be played with the trials of a track that have reached their end."""
    jobs = []
    for one in trained:
        for levels in levels_of(track) if one.done else ():
            path = evaluation_path(folder, track, one.game, one.seed, levels)
            if why_missing(read_evaluation(path), path, one, levels, protocol):
                jobs.append(Job(track, one, levels, path))
    return jobs


def run_jobs(
    jobs: Sequence[Job],
    protocol: Protocol,
    settings: cluster.RaySettings,
    say: Callable[[str], None] = print,
) -> int:
    """Play evaluations and write each down as soon as it is finished.

    Args:
        jobs: What is played.
        protocol: Episodes, seed and score table.
        settings: Which Ray plays.
        say: Told what is played, and what could not be.

    Returns:
        Evaluations that could not be played.

    Raises:
        evaluate_command.Stopped: If Ctrl-C or SIGTERM came.
        UserError: If a file cannot be written.
    """
    failed = 0
    for number, job in enumerate(jobs, 1):
        say(f"Evaluation {number} of {len(jobs)}: {job.title}")
        try:
            plan = make_plan(_flags(job, protocol), job.trained.checkpoint(), {})
            played = play(plan, None, settings)
        except UserError as error:
            failed += 1
            say(f"It could not be played: {error}")
            continue
        job.path.parent.mkdir(parents=True, exist_ok=True)
        write(job.path, result_document(plan, played))
    return failed


def _flags(job: Job, protocol: Protocol) -> EvaluateFlags:
    return EvaluateFlags(
        checkpoint=str(job.trained.folder),
        episodes=protocol.episodes,
        levels=job.levels,
        seed=protocol.evaluation_seed,
        normalize=protocol.score_table,
    )
