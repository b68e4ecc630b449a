"""App: what a training result says, as the few numbers that a person watches."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_ppg.algorithm.metrics import EVALUATION
from rllib_ppg.app.result_keys import LEARNER_STATS

STEPS = "num_env_steps_sampled_lifetime"
_STEP_KEYS = ("timesteps_total", STEPS, "num_env_steps_sampled", "agent_timesteps_total")
_SECONDS = ("time_total_s", "time/run_s")
_TIMES = ("sample", "policy_phase", "aux_phase", "weight_sync")


@dataclass
class Progress:
    """Where a trial stands after its latest result. Unknown numbers are NaN.

    Attributes:
        iteration: Training iterations so far.
        steps: Environment steps so far.
        seconds: Seconds of training so far, those before a restore included.
        stop: The stop keys.
        result: The latest result.
        times: Seconds by part of the work, summed over this process.
        notices: What the latest result had to say in words.
        evaluation: Numbers of the latest evaluation, by their names without `evaluation/`.
        evaluated_at: Environment steps at which it was made.
    """

    stop: Mapping[str, float] = field(default_factory=dict)
    iteration: int = 0
    steps: float = math.nan
    seconds: float = 0.0
    result: Mapping[str, Any] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    evaluation: dict[str, float] = field(default_factory=dict)
    evaluated_at: float = math.nan
    _first: tuple[float, float] | None = None

    def update(self, result: Mapping[str, Any]) -> None:
        """Take in a new result."""
        self.result = result
        self.iteration = int(result.get("training_iteration", 0))
        self.steps = self.number(STEPS)
        self.seconds = self.number("time_total_s")
        spent = self.number("time_this_iter_s")
        if self._first is None:
            made = self.number("num_env_steps_sampled_this_iter")
            before = self.steps - made if made == made else self.steps * (self.iteration > 1)
            self._first = (before, 0.0)
        begin, so_far = self._first
        self._first = (begin, so_far + (0.0 if math.isnan(spent) else spent))
        known = 0.0
        for name in _TIMES:
            part = self.stat(f"time/{name}_s")
            part = 0.0 if math.isnan(part) else part
            self.times[name] = self.times.get(name, 0.0) + part
            known += part
        played = self.number("evaluation/time_s")
        if not math.isnan(played):
            self.times["evaluation"] = self.times.get("evaluation", 0.0) + played
            known += played
            self.evaluation = {name: self.number(f"evaluation/{name}") for name in EVALUATION}
            self.evaluated_at = self.steps
        self.times["other"] = self.times.get("other", 0.0) + max(0.0, spent - known)

    def number(self, key: str) -> float:
        """A number of the result by its path, or NaN."""
        node: Any = self.result
        if key in node:
            node = node[key]
        else:
            for name in key.split("/"):
                node = node.get(name) if isinstance(node, Mapping) else None
        return float(node) if isinstance(node, int | float) else math.nan

    def stat(self, name: str) -> float:
        """One of PPG's statistics, or NaN."""
        return self.number(f"{LEARNER_STATS}/{name}")

    @property
    def has_evaluated(self) -> bool:
        """Whether the latest result has an evaluation."""
        return not math.isnan(self.number("evaluation/time_s"))

    @property
    def is_ppg(self) -> bool:
        """Whether the result has PPG's statistics."""
        return not math.isnan(self.stat("phase/n_pi"))

    @property
    def speed(self) -> float:
        """Environment steps per second of this process, all phases."""
        if self._first is None or self._first[1] <= 0:
            return math.nan
        return (self.steps - self._first[0]) / self._first[1]

    def budget(self) -> tuple[str, float, float]:
        """What is nearest to its end, a stop key or the algorithm's own budget.

        Returns:
            Its name, where it stands, where it ends; `("", nan, nan)` where nothing counts up.
        """
        best, share = ("", math.nan, math.nan), -1.0
        for name, now, end in self._ends():
            if end > 0 and not math.isnan(now) and now / end > share:
                best, share = (name, now, end), now / end
        return best

    def _ends(self) -> Iterator[tuple[str, float, float]]:
        """Yield each end's name, where it stands, and where it is reached."""
        for name, end in self.stop.items():
            if name in (*_STEP_KEYS, "training_iteration", "time_total_s"):
                yield name, self.number(name), end
        config = self.result.get("config", {})
        steps, seconds = config.get("budget_env_steps"), config.get("budget_s")
        if steps is not None:
            rows = config["train_batch_size"]
            yield "timesteps_total", self.steps, math.ceil(steps / rows) * rows
        if seconds is not None:
            yield "time/run_s", self.stat("time/run_s"), seconds - config["budget_margin_s"]

    @property
    def share_done(self) -> float:
        """How much of the budget is used up, 0 to 1, or NaN."""
        name, now, end = self.budget()
        return min(1.0, now / end) if name else math.nan

    @property
    def eta_s(self) -> float:
        """Seconds to go at the pace so far, or NaN."""
        name, now, end = self.budget()
        if not name:
            return math.nan
        left = max(0.0, end - now)
        if name in _SECONDS:
            return left
        if name == "training_iteration":
            pace = float(self.result.get("iterations_since_restore", self.iteration))
            spent = self._first[1] if self._first else 0.0
            return left * spent / pace if pace else math.nan
        return left / self.speed if self.speed > 0 else math.nan

    @property
    def in_aux_phase(self) -> bool:
        """Whether the latest iteration was a slice of an auxiliary phase."""
        return self.stat("phase/in_aux_phase") == 1

    @property
    def aux_epoch(self) -> int:
        """Epoch of the auxiliary phase that the latest slice worked in; 0 records the policy."""
        epoch = self.stat("phase/aux_epoch")
        return 0 if math.isnan(epoch) else int(epoch)

    @property
    def phase(self) -> str:
        """`policy 12/32`, or `aux 2/6 34%`; empty for other algorithms."""
        if not self.is_ppg:
            return ""
        epochs = self.stat("phase/aux_epochs")
        if self.in_aux_phase:
            return f"aux {self.aux_epoch}/{epochs:.0f} {self.stat('phase/aux_progress'):.0%}"
        if not epochs:
            return "policy"
        done, whole = self.stat("phase/policy_iterations"), self.stat("phase/n_pi")
        return f"policy {done:.0f}/{whole:.0f}"


def show(value: float, form: str = ".3g") -> str:
    """A number as text; `-` for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def show_count(value: float) -> str:
    """A count with commas between thousands; `-` for NaN."""
    return show(value, ",.0f")


def counted(number: float, noun: str) -> str:
    """`1 phase`, `2 phases`, `2 minibatches`, `0.5 GPUs`; for nouns with a regular plural."""
    ending = "es" if noun.endswith("ch") else "s"
    return f"{number:,.12g} {noun}{'' if number == 1 else ending}"


def show_time(seconds: float) -> str:
    """`45s`, `12m30s`, `3h12m` or `2d04h`; `-` for NaN."""
    if math.isnan(seconds) or math.isinf(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
