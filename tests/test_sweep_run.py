"""A real sweep in small: ended early by ASHA, interrupted, resumed, and its best trained again."""

import os
import signal
from pathlib import Path

import pytest
import yaml
from app_helpers import SET_SMALL, command

from rllib_ppg.app.sweep_watch import SweepWatch

# Tune does not close its loggers' files where a trial is paused or given up.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

SWEEP = """
x:
  run: PPG
  env: CartPole-v1
  num_samples: 3
  max_concurrent_trials: 1
  stop: {timesteps_total: 1024}
  search: {type: random, seed: 1}
  scheduler: {type: asha, grace_period: 256, reduction_factor: 2}
  config:
    lr: {loguniform: [1e-4, 1e-2]}
    gamma: {choice: [0.9, 0.99]}
    clip_param: {conditional: {on: gamma, cases: {0.9: 0.1}, otherwise: {uniform: [0.2, 0.3]}}}
    model: {custom_model_config: {hiddens: [8]}}
"""


def test_a_sweep_is_interrupted_goes_on_and_leaves_its_best(
    capsys: pytest.CaptureFixture[str],
    ray_local: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path = tmp_path / "e.yaml"
    path.write_text(SWEEP)
    words = ["train", "-f", str(path), "--storage-path", str(tmp_path / "r"), *SET_SMALL]
    ended = SweepWatch.ended

    def interrupt(watch: SweepWatch, trial) -> None:
        ended(watch, trial)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(SweepWatch, "ended", interrupt)
        first = command(capsys, *words)
    assert first.code == 130, first
    assert "x: learner 1 CPU, 0 GPU, which samples too; 1 of 3 trials at once" in first.out
    assert "trial 00000" in first.out and "best so far: trial 00000" in first.out
    place = tmp_path / "r" / "x"
    done = {p: p.read_bytes() for p in place.glob("*_00000_*/result.json")}
    assert len(done) == 1

    second = command(capsys, *words, "--resume")
    assert second.code == 0 and "x: 3 trials: 3 done" in second.out, second
    assert all(p.read_bytes() == content for p, content in done.items()), "trained again"
    assert len(list(place.glob("*/result.json"))) == 3
    assert "Best by env_runners/episode_return_mean (max):" in second.out
    (best,) = yaml.safe_load((place / "best.yaml").read_text()).values()
    expected = 0.1 if best["config"]["gamma"] == 0.9 else pytest.approx(0.25, abs=0.05)
    assert best["config"]["clip_param"] == expected
    assert (place / "search.png").is_file()

    again = command(
        capsys, "train", "-f", str(place / "best.yaml"), "--stop", "{training_iteration: 1}"
    )
    assert again.code == 0 and "x-best: done" in again.out, again
