"""The folder of the winners' golden files: nothing is missing, and nothing is left out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import winner_files

# What tests of `golden` in their names read, by file name or by keys.
NAMES = {
    "generalization": (
        "a_augment", "a_aux_phase", "a_cycle", "a_frame_stack", "a_gae", "a_model",
        "a_policy_phase", "a_reward_norm", "a_schedules",
    ),
    "sample_efficiency": (
        "b_augment", "b_aux_phase", "b_cycle", "b_drac", "b_gae", "b_model", "b_policy_phase",
        "b_reward", "b_ucb_clip",
    ),
}  # fmt: skip


def test_every_kind_of_file_is_there_and_every_file_is_of_a_kind():
    for folder, names in NAMES.items():
        found = sorted((winner_files.FOLDER / folder).glob("*.npz"))
        for name in names:
            assert any(name in path.stem for path in found), f"no {name} in {folder}"
        unknown = [path.name for path in found if not any(name in path.stem for name in names)]
        assert not unknown, f"no test reads {unknown}"


@pytest.mark.parametrize(
    "test",
    [
        "test_golden_winner_gae.py",
        pytest.param("test_golden_winner_networks.py", marks=pytest.mark.slow),
    ],
)
def test_the_variable_chooses_the_folder_and_an_empty_one_fails_the_run(tmp_path, test):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    environment = {**os.environ, winner_files.ENV_VAR: str(tmp_path)}
    result = subprocess.run(
        [*command, str(Path(__file__).with_name(test))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert str(tmp_path) in result.stdout and "FileNotFoundError" in result.stdout
