"""The live view, drawn into a terminal of text."""

import io
import re

import pytest
from app_helpers import evaluated, result, trial

from rllib_ppg.app.live import LiveView
from rllib_ppg.app.progress import Progress
from rllib_ppg.app.view import make_view

STOP = {"timesteps_total": 1000}


class Terminal(io.StringIO):
    """Text that says of itself that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> LiveView:
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("TERM", "xterm")
    made = make_view("ppg · PPG · procgen · coinrun", live=True, out=Terminal())
    assert isinstance(made, LiveView)
    return made


def drawn(view: LiveView) -> str:
    """What the view shows now, as text."""
    with view._console.capture() as capture:
        view._console.print(view._render(), no_wrap=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get())


def shown(view: LiveView, *results: dict, trials: int = 1, number: str = "00000") -> str:
    progress = Progress(STOP)
    for each in results:
        progress.update(each)
    view.result(trial(number), progress, trials)
    return drawn(view)


def test_before_the_first_result_it_says_what_it_waits_for(view: LiveView):
    text = drawn(view)
    assert "ppg · PPG · procgen · coinrun" in text and "starting workers" in text
    view.started()
    assert "first iteration is under way" in drawn(view)


def test_a_policy_iteration_in_full(view: LiveView):
    stats = {
        "phase__policy_iterations": 3,
        "policy_phase__entropy": 2.5,
        "policy_phase__approx_kl": 0.01,
        "policy_phase__explained_variance": 0.7,
        "time__sample_s": 1.0,
        "time__policy_phase_s": 0.5,
    }
    text = shown(view, result(3, 300, **stats))
    for part in (
        "300, 50 steps/s",
        "300 of 1,000 timesteps_total, 30.0%, ETA >14s",
        "policy iteration 3 of 4, then auxiliary phase",
        "7.25, length 33",
        "entropy 2.5",
        "kl 0.01",
        "expl.var 0.7",
        "sampling 50%  policy 25%",
        "/results/x/00000",
        "━",
    ):
        assert part in text, part
    assert "nan" not in text


def test_what_was_not_made_is_a_dash(view: LiveView):
    position = {"phase__in_aux_phase": 1, "phase__aux_epoch": 1, "phase__aux_progress": 0.5}
    text = shown(view, result(3, 300, **position))
    assert "entropy -" in text and "aux value -" in text
    assert "auxiliary phase: epoch 1 of 2, 50% of the phase" in text


def test_without_auxiliary_phase_there_is_no_line_for_it(view: LiveView):
    text = shown(view, result(3, 300, phase__aux_epochs=0))
    assert "auxiliary  loss" not in text and "policy iteration" in text


def test_several_trials_have_a_line_each(view: LiveView):
    shown(view, result(1, 100), trials=3)
    text = shown(view, result(2, 200), trials=3, number="00001")
    assert "00000" in text and "00001" in text and "1 not started yet" in text
    assert text.count("policy 0/4") == 2


def test_a_note_stays_below(view: LiveView):
    view.note("Stopping after a checkpoint")
    assert drawn(view).rstrip().endswith("Stopping after a checkpoint")


def test_an_event_is_printed_above_while_it_runs(view: LiveView):
    with view:
        view.event("the trial failed: ValueError: no")
    assert "the trial failed: ValueError: no" in view._console.file.getvalue()


def test_results_of_other_algorithms_show_what_they_have(view: LiveView):
    text = shown(view, {"training_iteration": 2, "num_env_steps_sampled_lifetime": 50})
    assert "50, - steps/s" in text and "phase" not in text


def test_plain_lines_can_be_had_on_a_terminal():
    assert not isinstance(make_view("x", live=False, out=Terminal()), LiveView)


def test_the_newest_evaluation_stays_until_the_next(view: LiveView):
    made = evaluated(1, 100, test_return=4.0, test_return_stderr=0.5)
    text = shown(view, made, result(2, 200))
    assert "test 4 +- 0.5, at 100 steps" in text
    assert re.search(r"sync .* evaluation \d+%", text)
    assert "evaluation" not in shown(view, result(1, 100))


def test_of_many_trials_those_with_the_newest_results_have_a_line(view: LiveView):
    for number in range(20):
        text = shown(view, result(), trials=30, number=f"{number:05}")
    assert "00019" in text and "00005" in text and "00004" not in text
    assert "5 others" in text and "10 not started yet" in text
    assert "00000" in shown(view, result(2), trials=30, number="00000")


def test_a_trial_whose_values_change_keeps_its_line(view: LiveView):
    one = trial("00000", evaluated_params={"lr": 0.1}, config={"lr": 0.1})
    for lr in (0.1, 0.2):
        one.config["lr"] = lr
        view.result(one, Progress(STOP), 2)
    assert "lr=0.2" in drawn(view) and "lr=0.1" not in drawn(view)
