"""The golden folder itself: that there is something to compare, and that nothing is left out."""

import os
import subprocess
import sys
from pathlib import Path

import golden_files
import pytest


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_golden_files_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no golden file .* in {tmp_path / name}"):
        golden_files.find_files(tmp_path / name)


def test_the_variable_chooses_the_folder_and_an_empty_one_fails_the_run(tmp_path):
    tests = Path(__file__).with_name("test_golden_returns.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    environment = {**os.environ, golden_files.ENV_VAR: str(tmp_path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert f"no golden file (*.npz) in {tmp_path}" in result.stdout


def test_every_golden_file_is_of_a_kind_that_is_compared():
    unknown = [path.name for path, kind in golden_files.all_files().items() if kind is None]
    assert not unknown, f"no test reads {unknown}"


def test_every_golden_file_has_a_case():
    suffixes = {
        "gae": "adv_norm",
        "reward_norm": "ret_carry",
        "policy_phase": "kind",
        "aux_phase": "mb_envseg",
        "init_norms": "param_numel",
    }
    for path, kind in golden_files.all_files().items():
        if kind in suffixes:
            assert golden_files.load(path).prefixes(suffixes[kind]), f"{path.name} has no case"


def test_own_folder_has_every_kind_and_architecture():
    own = golden_files.find_files(golden_files.OWN_FOLDER)
    assert set(own.values()) == set(golden_files.KINDS)
    for kind in ("model", "policy_phase", "aux_phase", "cycle"):
        found = {str(golden_files.load(p)["cfg/arch"]) for p, k in own.items() if k == kind}
        assert found == {"dual", "detach", "shared"}, kind
