"""`rllib export`: from what Tune and `algorithm.save()` write to a policy that loads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from app_helpers import SMALL, Run, command

from rllib_ppg import PPGConfig
from rllib_ppg.algorithm.checkpoint_files import MANIFEST, POLICY_STATE, write_manifest
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.exported import load_policy

OBS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(ray_local: None, tmp_path_factory: pytest.TempPathFactory):
    """Return a checkpoint of `algorithm.save()` and the actions of its policy for `OBS`."""
    algorithm = PPGConfig().environment("CartPole-v1").update_from_dict(SMALL).build_algo()
    algorithm.train()
    path = Path(algorithm.save(str(tmp_path_factory.mktemp("checkpoint"))).checkpoint.path)
    policy = algorithm.get_policy()
    with torch.inference_mode():
        logits, _ = policy.network.policy(torch.from_numpy(OBS))
    algorithm.stop()
    return path, policy.action_spec.distribution(logits).mode().numpy()


@pytest.fixture
def checkpoint(trained, tmp_path: Path) -> Path:
    return copy(trained, tmp_path / "checkpoint")


def copy(trained, folder: Path) -> Path:
    shutil.copytree(trained[0], folder)
    return folder


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """Return the message of a refused export, which wrote nothing."""
    run = command(capsys, "export", *words, "--out", str(folder / "policy"))
    assert run.code == 2 and run.err.startswith("Error: ") and "Traceback" not in run.err
    assert len(run.err.strip().splitlines()) == 1
    assert not (folder / "policy").exists()
    return run.err


def exported(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> Run:
    run = command(capsys, "export", *words, "--out", str(folder / "policy"))
    assert run.code == 0 and run.err == "", run
    return run


def test_a_saved_algorithm_is_exported_and_acts_the_same(capsys, tmp_path, trained, checkpoint):
    run = exported(capsys, tmp_path, str(checkpoint), "--format", "safetensors")
    policy = load_policy(tmp_path / "policy")
    assert np.array_equal(policy.act(OBS, greedy=True), trained[1])
    assert policy.meta.env == "CartPole-v1" and policy.meta.env_steps == 8 * 16
    assert "sources that you trust" in run.out and "128 environment steps" in run.out
    (line,) = [line for line in run.out.splitlines() if "load_policy(" in line]
    assert str(tmp_path / "policy") in line


def test_a_checkpoint_with_a_manifest_is_checked_first(capsys, tmp_path, checkpoint):
    # `algorithm.save()` may have written one already.
    write_manifest(checkpoint, {})
    exported(capsys, tmp_path, str(checkpoint))
    shutil.rmtree(tmp_path / "policy")
    data = bytearray((checkpoint / POLICY_STATE).read_bytes())
    data[100] ^= 1
    (checkpoint / POLICY_STATE).write_bytes(data)
    assert f"{POLICY_STATE} is damaged" in refusal(capsys, tmp_path, str(checkpoint))


def test_the_newest_whole_checkpoint_of_a_run_is_taken(capsys, tmp_path, trained):
    run = tmp_path / "run"
    for number in (1, 2, 10):
        write_manifest(copy(trained, run / "trial" / f"checkpoint_{number:06d}"), {})
    (run / "trial" / "checkpoint_000010" / POLICY_STATE).unlink()
    for given in (run, run / "trial"):
        shown = exported(capsys, tmp_path, str(given)).out
        assert "Exporting " + str(run / "trial" / "checkpoint_000002") in shown
        assert f"checkpoint_000010 is broken: {POLICY_STATE} is missing" in shown
        shutil.rmtree(tmp_path / "policy")


def test_several_trials_have_to_be_told_apart(capsys, tmp_path, trained):
    for trial in ("trial_a", "trial_b"):
        copy(trained, tmp_path / trial / "checkpoint_000000")
    message = refusal(capsys, tmp_path, str(tmp_path))
    assert "trial_a, trial_b" in message


def test_a_run_without_a_whole_checkpoint_says_why(capsys, tmp_path, trained):
    broken = copy(trained, tmp_path / "run" / "checkpoint_000000")
    write_manifest(broken, {})
    (broken / POLICY_STATE).unlink()
    assert "is missing" in refusal(capsys, tmp_path, str(tmp_path / "run"))


def test_half_a_checkpoint_without_manifest_was_cut_short(capsys, tmp_path, checkpoint):
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    (checkpoint / POLICY_STATE).unlink()
    assert "cut short" in refusal(capsys, tmp_path, str(checkpoint))


def test_nothing_to_export(capsys, tmp_path):
    assert "no checkpoint folder no/where" in refusal(capsys, tmp_path, "no/where")
    (tmp_path / "empty").mkdir()
    assert "holds none" in refusal(capsys, tmp_path, str(tmp_path / "empty"))


def test_a_format_that_is_not_there(capsys, tmp_path, checkpoint):
    message = refusal(capsys, tmp_path, str(checkpoint), "--format", "safetensor")
    assert 'Did you mean "safetensors"?' in message


def test_a_folder_that_is_there_is_replaced_by_force_only(capsys, tmp_path, checkpoint):
    exported(capsys, tmp_path, str(checkpoint))
    path = tmp_path / "policy" / "policy.json"
    path.write_text("old")
    words = ["export", str(checkpoint), "--out", str(tmp_path / "policy")]
    run = command(capsys, *words)
    assert run.code == 2 and "exists already" in run.err and "--force" in run.err
    assert path.read_text() == "old"
    assert command(capsys, *words, "--force").code == 0
    assert json.loads(path.read_text())["env"] == "CartPole-v1"


def test_a_folder_that_cannot_be_made(capsys, checkpoint):
    run = command(capsys, "export", str(checkpoint), "--out", "/dev/null/x/policy")
    assert run.code == 2 and "/dev/null/x/policy: cannot be written" in run.err


def test_neither_ray_nor_workers_nor_procgen_are_started(tmp_path):
    config = PPGConfig().environment("procgen").to_dict()
    space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    policy = PPGTorchPolicy(space, gymnasium.spaces.Discrete(15), config)
    policy.export_checkpoint(str((tmp_path / "checkpoint" / POLICY_STATE).parent))
    write_manifest(tmp_path / "checkpoint", {})
    # A game would load Procgen's C++ library; asking for the names of its options does not.
    code = (
        "import sys; from rllib_ppg.app.cli import main; code = main(sys.argv[1:]); import ray;"
        "print(code, ray.is_initialized(), 'libenv' in open('/proc/self/maps').read())"
    )
    words = ["export", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "policy")]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "0 False False", run.stderr


def test_help_and_a_missing_folder_import_nothing_heavy():
    code = (
        "import sys; from rllib_ppg.app.cli import main; main(sys.argv[1:]);"
        "print(sorted({'ray', 'torch', 'numpy', 'gymnasium'} & set(sys.modules)), file=sys.stderr)"
    )
    for word in ("--help", "no/where"):
        run = subprocess.run(
            [sys.executable, "-c", code, "export", word], capture_output=True, text=True
        )
        assert run.stderr.strip().splitlines()[-1] == "[]"
