"""App: how a running experiment is shown; here as plain lines, in `live` on a terminal."""

import math
import sys
import time
from typing import Any, Protocol, TextIO

from rllib_ppg.app.progress import Progress, show, show_count, show_time
from rllib_ppg.app.variants import value_at

RETURN = "env_runners/episode_return_mean"
LENGTH = "env_runners/episode_len_mean"

POLICY_LOSSES = {
    "loss": "policy_phase/loss_pi",
    "value": "policy_phase/loss_vf",
    "kl": "policy_phase/approx_kl",
    "clip": "policy_phase/clip_fraction",
    "entropy": "policy_phase/entropy",
    "expl.var": "policy_phase/explained_variance",
    "grad": "policy_phase/grad_norm",
}
AUX_LOSSES = {
    "loss": "aux_phase/loss_total",
    "kl": "aux_phase/pol_distance",
    "aux value": "aux_phase/vf_aux",
    "value": "aux_phase/vf_true",
    "grad": "aux_phase/grad_norm",
}


class View(Protocol):
    """What shows a running experiment."""

    def __enter__(self) -> "View":
        """Begin to show it."""

    def __exit__(self, *error: object) -> None:
        """End."""

    def started(self) -> None:
        """A trial has built its workers and learner and begins to train."""

    def result(self, trial: Any, progress: Progress, trials: int) -> None:
        """A trial has a new result; there are `trials` in all."""

    def event(self, text: str) -> None:
        """Something happened that is worth a line of its own."""

    def note(self, text: str) -> None:
        """Say something lasting, from a signal handler: only take it in here."""


def make_view(title: str, *, live: bool, out: TextIO | None = None) -> View:
    """The live view where it is wanted and the output is a terminal, else plain lines.

    Args:
        title: What is trained.
        live: Whether a live view is wanted.
        out: Where to write; the standard output unless given.
    """
    out = out or sys.stdout
    if live and out.isatty():
        from rllib_ppg.app.live import LiveView

        return LiveView(title, out)
    return PlainView(title, out)


def phase_of(progress: Progress) -> str:
    """Where in its phases a PPG trial stands, in words."""
    epochs, share = progress.stat("phase/aux_epochs"), progress.stat("phase/aux_progress")
    if progress.in_aux_phase:
        epoch = f"epoch {progress.aux_epoch} of {epochs:.0f}"
        what = epoch if progress.aux_epoch else "recording the old policy"
        return f"auxiliary phase: {what}, {show(share, '.0%')} of the phase"
    if not epochs:
        return f"policy iteration {show_count(progress.stat('phase/policy_iterations_total'))}"
    done, whole = progress.stat("phase/policy_iterations"), progress.stat("phase/n_pi")
    return f"policy iteration {show(done, '.0f')} of {show(whole, '.0f')}, then auxiliary phase"


def eta_of(progress: Progress) -> str:
    """Time to go; `>` where no auxiliary phase has been seen yet, which will take time too."""
    unseen = (
        progress.is_ppg
        and progress.stat("phase/aux_epochs") > 0
        and progress.stat("phase/aux_phases") == 0
    )
    text = show_time(progress.eta_s)
    return f">{text}" if unseen and text != "-" else text


class PlainView:
    """One line a training iteration, without control codes.

    Args:
        title: What is trained.
        out: Where to write.
    """

    def __init__(self, title: str, out: TextIO) -> None:
        self._title = title
        self._out = out
        self._started = False

    def __enter__(self) -> "PlainView":
        self._print(f"{self._title}: starting")
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def started(self) -> None:
        """Print a line, the first time."""
        if not self._started:
            self._print(f"{clock()} workers and learner are up, the first iteration is under way")
        self._started = True

    def result(self, trial: Any, progress: Progress, trials: int) -> None:
        """Print a line."""
        name = f"{label_of(trial)}  " if trials > 1 else ""
        self._print(f"{clock()} {name}{plain_line(progress)}")

    def event(self, text: str) -> None:
        """Print a line."""
        self._print(f"{clock()} {text}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(f"{clock()} {text}")

    def _print(self, text: str) -> None:
        try:
            self._out.write(f"{text}\n")
            self._out.flush()
        except BrokenPipeError:  # nobody reads any more
            raise
        except OSError:  # a log on a full disk ends no training
            pass


def label_of(trial: Any) -> str:
    """A trial's number, and the values that a grid, a space or PBT gave it."""
    number = str(trial.trial_id).rsplit("_", 1)[-1]
    params = {}
    for name, value in (trial.evaluated_params or {}).items():
        # PBT changes a trial's configuration, and not what is noted there.
        params[name.rsplit("/", 1)[-1]] = value_at(trial.config, tuple(name.split("/")), value)
    return " ".join([number, *(f"{name}={show_value(value)}" for name, value in params.items())])


def show_value(value: Any) -> str:
    """A hyper-parameter in few characters."""
    return format(value, ".4g") if isinstance(value, float) else str(value)


def clock() -> str:
    """The time of day."""
    return time.strftime("%H:%M:%S")


def plain_line(progress: Progress) -> str:
    """A result on one line."""
    parts = [f"iteration {progress.iteration}", f"steps {steps_of(progress)}"]
    parts += [f"eta {eta_of(progress)}", f"{show_count(progress.speed)} steps/s"]
    if progress.is_ppg:
        parts.append(progress.phase)
    parts.append(f"return {show(progress.number(RETURN), '.4g')}")
    parts.append(f"length {show(progress.number(LENGTH), '.4g')}")
    if progress.has_evaluated:
        parts.append(f"evaluation {evaluation_of(progress)}")
    losses = AUX_LOSSES if progress.in_aux_phase else POLICY_LOSSES
    if progress.is_ppg:
        parts += [f"{name} {show(progress.stat(key))}" for name, key in losses.items()]
    return "  ".join(parts)


EVALUATED = {levels: f"{levels}_return" for levels in ("train", "test", "all", "custom")}
EVALUATED["gap"] = "gap"


def evaluation_of(progress: Progress) -> str:
    """The latest evaluation: the mean return of each kind of levels with its error, and the gap."""
    found = progress.evaluation
    shown = {word: name for word, name in EVALUATED.items() if not math.isnan(found[name])}
    numbers = {word: (found[name], found[f"{name}_stderr"]) for word, name in shown.items()}
    if not numbers:  # an environment without levels
        plain = "env_runners/episode_return"
        numbers = {"return": (found[f"{plain}_mean"], found[f"{plain}_stderr"])}
    return "  ".join(
        f"{word} {show(mean, '.4g')} +- {show(error, '.2g')}"
        for word, (mean, error) in numbers.items()
    )


def steps_of(progress: Progress) -> str:
    """Environment steps so far, and the share of the budget."""
    share = progress.share_done
    return show_count(progress.steps) + ("" if math.isnan(share) else f" ({share:.1%})")
