"""A running experiment as plain lines."""

import io

import pytest
from app_helpers import evaluated, result, trial

from rllib_ppg.app.progress import Progress
from rllib_ppg.app.view import (
    PlainView,
    eta_of,
    evaluation_of,
    label_of,
    make_view,
    phase_of,
    plain_line,
)


def progress(*results: dict) -> Progress:
    made = Progress({"timesteps_total": 1000})
    for each in results:
        made.update(each)
    return made


POLICY = result(1, 100, policy_phase__entropy=2.5, policy_phase__loss_pi=-0.01)
IN_AUX = {"phase__in_aux_phase": 1, "phase__aux_epoch": 1, "phase__aux_progress": 0.5}
AUX = result(2, 100, **IN_AUX, aux_phase__vf_aux=0.25)


def test_a_policy_iteration_is_one_line_with_its_losses():
    line = plain_line(progress(POLICY))
    for part in ("iteration 1 ", "steps 100 (10.0%)", "50 steps/s", "policy 0/4", "return 7.25",
                 "length 33", "loss -0.01", "entropy 2.5", "kl -"):  # fmt: skip
        assert part in line
    assert "\n" not in line and "nan" not in line


def test_an_auxiliary_slice_shows_its_own_losses():
    line = plain_line(progress(POLICY, AUX))
    assert "aux 1/2 50%" in line and "aux value 0.25" in line and "entropy" not in line


GAP = {
    "train_return": 9.5, "train_return_stderr": 0.25, "test_return": 4.125,
    "test_return_stderr": 0.5, "gap": 5.375, "gap_stderr": 0.559,
}  # fmt: skip


def test_an_evaluation_stands_on_the_line_of_its_iteration_only():
    line = plain_line(progress(evaluated(**GAP)))
    assert "evaluation train 9.5 +- 0.25  test 4.125 +- 0.5  gap 5.375 +- 0.56  " in line
    unknown = evaluated(2, 200, **dict.fromkeys(GAP, float("nan")), time_s=float("nan"))
    seen = progress(evaluated(**GAP), unknown)
    assert "evaluation" not in plain_line(seen)
    assert "gap 5.375" in evaluation_of(seen) and seen.evaluated_at == 100


def test_an_evaluation_without_levels_is_its_return():
    numbers = {"env_runners__episode_return_mean": 20, "env_runners__episode_return_stderr": 1.5}
    assert "evaluation return 20 +- 1.5  " in plain_line(progress(evaluated(**numbers)))


def test_time_to_go_is_a_lower_bound_until_an_auxiliary_phase_was_seen():
    assert eta_of(progress(POLICY)) == ">18s"
    assert eta_of(progress(result(1, 100, phase__aux_phases=1))) == "18s"
    assert eta_of(progress(result(1, 100, phase__aux_epochs=0))) == "18s"


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        ({"phase__policy_iterations": 2}, "policy iteration 2 of 4, then auxiliary phase"),
        ({"phase__aux_epochs": 0, "phase__policy_iterations_total": 12}, "policy iteration 12"),
        (
            {**IN_AUX, "phase__aux_epoch": 0, "phase__aux_progress": 0.1},
            "auxiliary phase: recording the old policy, 10% of the phase",
        ),
        (
            {**IN_AUX, "phase__aux_epoch": 2, "phase__aux_progress": 0.9},
            "auxiliary phase: epoch 2 of 2, 90% of the phase",
        ),
    ],
)
def test_the_phase_in_words(stats: dict, words: str):
    assert phase_of(progress(result(1, 100, **stats))) == words


def test_without_a_terminal_there_are_plain_lines_without_control_codes():
    out = io.StringIO()
    with make_view("title", live=True, out=out) as view:
        assert isinstance(view, PlainView)
        view.started()
        view.started()
        view.result(trial(), progress(POLICY), 1)
        view.event("something happened")
        view.note("stopping")
    lines = out.getvalue().splitlines()
    assert len(lines) == 5 and lines[0] == "title: starting"
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()


def test_with_several_trials_each_line_names_its_own():
    out = io.StringIO()
    view = PlainView("title", out)
    view.result(trial("00001", evaluated_params={"model/x": 1, "lr": 0.1}), progress(POLICY), 2)
    assert " 00001 x=1 lr=0.1  iteration 1 " in out.getvalue()


def test_a_trials_label_is_its_number_and_what_a_grid_gave_it():
    assert label_of(trial("00003")) == "00003"
    assert label_of(trial("00003", evaluated_params={"env_config/env_name": "maze"})) == (
        "00003 env_name=maze"
    )
