"""A simulated /opt/ml of one host of a training job."""

import json
from collections.abc import Sequence
from pathlib import Path

EXPERIMENT = """
tiny:
  run: PPG
  env: CartPole-v1
  stop: {training_iteration: 4}
  checkpoint_config: {checkpoint_frequency: 2}
  config:
    num_envs: 8
    rollout_fragment_length: 16
    nminibatch: 4
    n_pi: 2
    n_aux_epochs: 1
    aux_mbsize: 8
    num_env_runners: 0
"""


def make_tree(
    root: Path,
    parameters: dict[str, object],
    hosts: Sequence[str] = ("algo-1",),
    here: str | None = None,
    files: dict[str, str] | None = None,
) -> Path:
    """Write what SageMaker writes before it starts a container.

    Args:
        root: In place of /opt/ml.
        parameters: The hyperparameters; texts in the real one.
        hosts: All hosts.
        here: This host; the first unless given.
        files: Of the channel `experiment`: names and contents. None: no channels.
    """
    config, data = root / "input" / "config", root / "input" / "data"
    config.mkdir(parents=True)
    data.mkdir(parents=True)
    for name in ("model", "output", "checkpoints"):
        (root / name).mkdir(exist_ok=True)
    resources = {
        "current_host": here or hosts[0], "hosts": list(hosts), "network_interface_name": "lo",
        "current_instance_type": "ml.c5.xlarge", "current_group_name": "homogeneousCluster",
    }  # fmt: skip
    (config / "hyperparameters.json").write_text(json.dumps(parameters))
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    channels = {} if files is None else {"experiment": {"TrainingInputMode": "File"}}
    (config / "inputdataconfig.json").write_text(json.dumps(channels))
    for name, text in (files or {}).items():
        (data / "experiment").mkdir(exist_ok=True)
        (data / "experiment" / name).write_text(text)
    return root
