"""Tune's callback and scheduler: a request to end pauses trials, hopeless errors end them."""

import io
import signal
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_helpers import result, resumable, trial
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from rllib_ppg.app.interrupt import Interrupt
from rllib_ppg.app.result_files import results
from rllib_ppg.app.view import PlainView
from rllib_ppg.app.watch import OrderlyScheduler, RunWatch, WatchCallback
from rllib_ppg.errors import UserError


@pytest.fixture
def watch():
    with Interrupt() as interrupt, RunWatch(PlainView("x", io.StringIO()), interrupt, {}) as made:
        yield made


def shown(watch: RunWatch) -> str:
    return watch.view._out.getvalue()


def failing(folder: Path, error: Exception, **values) -> SimpleNamespace:
    wrapped = RayTaskError("train", "text", error).as_instanceof_cause()
    path = folder / "error.pkl"
    path.write_bytes(cloudpickle.dumps(wrapped))
    metadata = SimpleNamespace(num_failures=1, error_filename="error.txt")
    return trial(pickled_error_file=str(path), run_metadata=metadata, **values)


def added(one: SimpleNamespace, scheduler: TrialScheduler | None = None) -> str:
    """Let Tune's own controller take up a trial; returns how it has sorted it."""
    statuses = ("pending", "running", "paused", "stopped", "failed")
    sets: dict[str, set] = {f"_{status}_trials": set() for status in statuses}
    controller = SimpleNamespace(
        **sets, _placeholder_resolvers=None, _trials=[], _live_trials=set(), _iteration=0,
        _pending_trials_list=[], _resources_to_pending_trials=defaultdict(set),
        _callbacks=SimpleNamespace(on_step_end=lambda **info: None), _wrapped=lambda: controller,
        _scheduler_alg=OrderlyScheduler(scheduler or FIFOScheduler()),
        _mark_trial_to_checkpoint=lambda t: None,
    )  # fmt: skip
    taken = Hashable(one)
    TuneController.add_trial(controller, taken)
    (status,) = [name for name, members in sets.items() if taken in members]
    return status


class Hashable:
    """A trial of `app_helpers` as a member of a set, with Tune's own `set_status`."""

    set_status = Trial.set_status

    def __init__(self, one: SimpleNamespace) -> None:
        self.__dict__ = one.__dict__
        self.placement_group_factory = None

    def create_placement_group_factory(self) -> None:
        pass

    def invalidate_json_state(self) -> None:
        pass


def test_without_a_request_trials_go_on(watch: RunWatch):
    scheduler = OrderlyScheduler(FIFOScheduler())
    assert scheduler.on_trial_result(None, trial(), {}) == TrialScheduler.CONTINUE


def test_a_request_pauses_every_trial_with_its_next_result(watch: RunWatch):
    scheduler = OrderlyScheduler(FIFOScheduler())
    signal.raise_signal(signal.SIGINT)
    assert scheduler.on_trial_result(None, trial(), {}) == TrialScheduler.PAUSE
    assert scheduler.choose_trial_to_run(None) is None


@pytest.mark.parametrize(
    ("statuses", "chosen"),
    [
        (["TERMINATED", "PAUSED"], 1),
        (["RUNNING", "PAUSED"], None),
        (["PENDING", "PAUSED"], None),
        (["TERMINATED"], None),
    ],
)
def test_a_paused_trial_that_its_scheduler_has_forgotten_goes_on(watch, statuses, chosen):
    class Forgetful(FIFOScheduler):
        def choose_trial_to_run(self, tune_controller):
            return None

    trials = [trial(f"{n:05}", status=status) for n, status in enumerate(statuses)]
    controller = SimpleNamespace(get_trials=lambda: trials)
    found = OrderlyScheduler(Forgetful()).choose_trial_to_run(controller)
    assert found is (None if chosen is None else trials[chosen])


def test_what_the_inner_scheduler_stops_stays_stopped(watch: RunWatch):
    class Stopper(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            return TrialScheduler.STOP

    signal.raise_signal(signal.SIGINT)
    decision = OrderlyScheduler(Stopper()).on_trial_result(None, trial(), {})
    assert decision == TrialScheduler.STOP


def test_the_loop_ends_once_no_trial_runs(watch: RunWatch):
    got = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    watch.trials = [trial(status="RUNNING"), trial(status="PENDING")]
    watch.step_ends()
    signal.raise_signal(signal.SIGINT)
    watch.step_ends()
    assert got == []
    watch.trials[0].status = "PAUSED"
    watch.step_ends()
    signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR1]


@pytest.mark.parametrize(("error", "given_up"), [(FloatingPointError, True), (ValueError, False)])
def test_only_errors_that_come_again_end_a_trial(
    watch: RunWatch, tmp_path: Path, error: type[Exception], given_up: bool
):
    back = failing(tmp_path, error("nan"), status="PENDING")
    assert added(back) == ("_failed_trials" if given_up else "_pending_trials")
    assert ("nan" in shown(watch)) == given_up


def test_a_restart_is_told_with_its_cause(watch: RunWatch, tmp_path: Path):
    back = failing(tmp_path, ValueError("the toy broke"), checkpoint=object())
    WatchCallback().on_trial_recover(0, [], back)
    assert "ValueError: the toy broke; going on from its last checkpoint" in shown(watch)


def test_results_reach_the_view_and_the_trials_files(watch: RunWatch, tmp_path: Path):
    WatchCallback().on_trial_result(0, [], trial(path=str(tmp_path)), result(2, 200))
    assert "iteration 2  steps 200" in shown(watch)
    assert watch.progress["abcde_00000"].iteration == 2
    assert [row["training_iteration"] for row in results(tmp_path)] == [2]


def test_a_notice_is_told_once_while_it_lasts(watch: RunWatch, tmp_path: Path):
    one = trial(path=str(tmp_path))
    for iteration, notices in enumerate([["disk full"], ["disk full"], [], ["disk full"]], 1):
        watch.result(one, {**result(iteration), "notices": notices})
    assert shown(watch).count("disk full") == 2


def test_a_checkpoint_that_was_due_and_is_not_there_is_noted(watch: RunWatch):
    one = trial(checkpoint=None)
    callback = WatchCallback()
    for path, unsaved in ((None, True), ("a", False), ("a", True), ("b", False)):
        one.checkpoint = SimpleNamespace(path=path) if path else None
        callback.on_trial_save(0, [], one)
        assert (one.trial_id in watch.unsaved) == unsaved, path


def test_a_trial_that_had_reached_its_end_is_not_trained_on(tmp_path: Path):
    one = resumable(tmp_path, checkpoints=[3], rows=[1, 2, 3])
    for stop, status in ((4, "_pending_trials"), (3, "_stopped_trials")):
        stop_keys = {"training_iteration": stop}
        with Interrupt() as i, RunWatch(PlainView("x", io.StringIO()), i, stop_keys) as watch:
            assert added(one) == status
            assert watch.progress[one.trial_id].iteration == 3


def test_a_trial_that_its_scheduler_has_ended_is_not_trained_on(tmp_path: Path):
    one = resumable(tmp_path, checkpoints=[3], rows=[1, 2, 3])
    one.stopping_criterion = {"training_iteration": 9}  # so it was not for that
    with Interrupt() as i:
        keys = {"training_iteration": 9}
        with RunWatch(PlainView("x", io.StringIO()), i, keys):
            goal = {"metric": "env_runners/episode_return_mean", "mode": "max"}
            assert added(one, AsyncHyperBandScheduler(**goal)) == "_stopped_trials"


def test_a_first_save_that_fails_after_a_resume_is_noted(tmp_path: Path):
    one = resumable(tmp_path, checkpoints=[3], rows=[1, 2, 3])
    with Interrupt() as i, RunWatch(PlainView("x", io.StringIO()), i, {}) as watch:
        watch.resumed(one)
        one.checkpoint = SimpleNamespace(path=str(tmp_path / "checkpoint_000002"))
        watch.saved(one)
        assert watch.unsaved == {one.trial_id}
        one.checkpoint = SimpleNamespace(path=str(tmp_path / "checkpoint_000003"))
        watch.saved(one)
        assert not watch.unsaved


def test_a_resume_that_tune_has_given_up_is_refused():
    with Interrupt() as i, RunWatch(PlainView("x", io.StringIO()), i, {}, {"a", "b"}) as watch:
        with pytest.raises(UserError, match="1 of 2 trials are missing"):
            watch.step_begins([trial(trial_id="a")])


def test_stop_keys_of_the_command_replace_those_of_a_resumed_trial():
    calls = []
    old = trial(
        stopping_criterion={"timesteps_total": 1}, invalidate_json_state=lambda: calls.append(1)
    )
    with Interrupt() as interrupt:
        watch = RunWatch(PlainView("x", io.StringIO()), interrupt, {"training_iteration": 5})
        watch.step_begins([old])
        watch.step_begins([old])
    assert old.stopping_criterion == {"training_iteration": 5} and calls == [1]


def test_scheduler_and_callback_survive_tunes_pickling():
    scheduler = cloudpickle.loads(cloudpickle.dumps(OrderlyScheduler(AsyncHyperBandScheduler())))
    assert isinstance(scheduler.inner, AsyncHyperBandScheduler)
    assert isinstance(cloudpickle.loads(cloudpickle.dumps(WatchCallback())), WatchCallback)


def test_outside_of_a_run_both_do_nothing():
    assert RunWatch.current is None
    WatchCallback().on_trial_result(0, [], trial(), {})
    WatchCallback().on_step_end(0, [])
    decision = OrderlyScheduler(FIFOScheduler()).on_trial_result(None, trial(), {})
    assert decision == TrialScheduler.CONTINUE


def test_every_question_of_tune_is_passed_on():
    # A method that Ray adds to its schedulers would be answered by the base class, wrongly.
    asked = {name for name in vars(TrialScheduler) if not name.startswith("_")}
    answered = {name for name in vars(OrderlyScheduler) if not name.startswith("_")}
    assert asked - answered == {"CONTINUE", "PAUSE", "STOP", "NOOP", "save", "restore"}
