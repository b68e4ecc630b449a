"""What schedulers know of their trials is kept over a restart of the driver."""

from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from rllib_ppg._ray_compat import FutureTrainingResult
from rllib_ppg.app.scheduler_state import dump_scheduler, load_scheduler

GOAL = {"metric": "score", "mode": "max", "time_attr": "t"}
MAKE: dict[str, Any] = {
    "asha": lambda: AsyncHyperBandScheduler(**GOAL, grace_period=2, max_t=8, reduction_factor=2),
    "hyperband": lambda: HyperBandScheduler(**GOAL, max_t=9),
    "median": lambda: MedianStoppingRule(**GOAL, grace_period=1, min_samples_required=1),
    "pbt": lambda: PopulationBasedTraining(
        **GOAL, perturbation_interval=100, hyperparam_mutations={"lr": [1, 2]}
    ),
}


class Controller:
    """What schedulers ask of Tune's controller here."""

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials

    def get_trials(self) -> list[Trial]:
        return self._trials

    get_live_trials = get_trials
    search_alg = None


def trials() -> list[Trial]:
    return [Trial("PPG", config={"lr": 1}, stub=True, trial_id=name) for name in "abc"]


def report(scheduler: TrialScheduler, made: list[Trial], name: str, time: int, score: int) -> str:
    (one,) = [trial for trial in made if trial.trial_id == name]
    told = {"t": time, "score": score, "training_iteration": time}
    return scheduler.on_trial_result(Controller(made), one, told)


def started(kind: str) -> tuple[TrialScheduler, list[Trial]]:
    scheduler, made = MAKE[kind](), trials()
    for trial in made:
        scheduler.on_trial_add(Controller(made), trial)
        trial.status = Trial.RUNNING
    return scheduler, made


@pytest.mark.parametrize("kind", MAKE)
def test_a_scheduler_decides_as_if_it_had_not_been_made_anew(kind: str):
    first, before = started(kind)
    for time in (1, 2):
        report(first, before, "a", time, score=0)
    second, after = started(kind)
    load_scheduler(second, dump_scheduler(first), after)
    assert second.debug_string() == first.debug_string()
    decisions = [report(s, t, "b", 2, score=-1) for s, t in ((first, before), (second, after))]
    assert decisions[0] == decisions[1]
    if kind in ("asha", "median"):
        assert decisions[0] == TrialScheduler.STOP, "it is worse than a, of before"


def test_a_trial_that_goes_on_was_not_stopped_after_all():
    first, before = started("median")
    for time in (1, 2):
        report(first, before, "a", time, score=0)
    assert report(first, before, "b", 2, score=-1) == TrialScheduler.STOP
    second, after = started("median")  # killed before b had ended
    load_scheduler(second, dump_scheduler(first), after)
    assert report(second, after, "b", 2, score=-1) == TrialScheduler.STOP


def test_a_save_that_was_under_way_is_the_trials_newest_checkpoint_by_now():
    scheduler, (one, *_) = MAKE["pbt"](), trials()
    scheduler.on_trial_add(Controller([one]), one)
    scheduler._trial_state[one].last_score = 3.0
    scheduler._trial_state[one].last_checkpoint = FutureTrainingResult(None)
    data = dump_scheduler(scheduler)
    (again, *_) = trials()

    class Saved(Trial):
        checkpoint = "newest"

    again.__class__ = Saved
    new = MAKE["pbt"]()
    load_scheduler(new, data, [again])
    assert list(new._trial_state) == [again]
    assert new._trial_state[again].last_checkpoint == "newest"


def test_a_trial_that_is_gone_is_an_error():
    scheduler, made = MAKE["pbt"](), trials()
    scheduler.on_trial_add(Controller(made), made[0])
    with pytest.raises(KeyError):
        load_scheduler(MAKE["pbt"](), dump_scheduler(scheduler), made[1:])
