"""The files of cluster/, as far as they can be checked without a cloud: docs/cluster.md.

`slow/test_slurm.py` runs the Slurm script.
"""

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from rllib_ppg._version import __version__
from rllib_ppg.app.cli import app
from rllib_ppg.app.cluster_commands import parse_train

ROOT = Path(__file__).resolve().parents[1]
AWS, KUBERAY, SLURM = (
    ROOT / "cluster" / name for name in ("aws.yaml", "kuberay-rayjob.yaml", "slurm.sh")
)


def aws() -> dict[str, Any]:
    return yaml.safe_load(AWS.read_text())


def kuberay() -> tuple[dict[str, Any], dict[str, Any]]:
    job, claim = yaml.safe_load_all(KUBERAY.read_text())
    return job, claim


def schema() -> dict[str, Any]:
    return json.loads((ROOT / "tests" / "kuberay_schema.json").read_text())


def pods() -> dict[str, dict[str, Any]]:
    cluster = kuberay()[0]["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    groups["head"] = cluster["headGroupSpec"]
    return {name: group["template"]["spec"] for name, group in groups.items()}


def commands(path: Path) -> list[list[str]]:
    """Return the `rllib` commands in a file's comments, continued lines joined."""
    text = re.sub(r"\\\n#", " ", path.read_text())
    return [shlex.split(line) for line in re.findall(r"^#\s+(rllib .*)$", text, re.MULTILINE)]


def test_ray_takes_the_aws_file_and_completes_it():
    complete = prepare_config(aws())
    validate_config(complete)
    assert complete["auth"]["ssh_user"] == "ubuntu" and complete["max_workers"] == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("provider"),
        lambda c: c.update(max_worker=3),
        lambda c: c["available_node_types"]["head"].pop("node_config"),
        lambda c: c.update(head_node_type="boss"),
    ],
)
def test_ray_refuses_the_aws_file_when_it_is_broken(change: Any):
    broken = copy.deepcopy(aws())
    change(broken)
    with pytest.raises((jsonschema.ValidationError, ValueError, RuntimeError, KeyError)):
        validate_config(prepare_config(broken))


def test_the_aws_cluster_has_a_head_without_work_spot_workers_and_one_gpu():
    types = aws()["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert types["cpu_worker"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["gpu_learner"]["node_config"]
    assert types["gpu_learner"]["resources"]["GPU"] == types["gpu_learner"]["max_workers"] == 1
    most = sum(kind.get("max_workers", 0) for kind in types.values())
    assert aws()["max_workers"] == most
    for kind in types.values():
        assert {"ImageId", "IamInstanceProfile", "InstanceType"} <= set(kind["node_config"])


def test_the_kuberay_file_fits_the_reduced_schema():
    jsonschema.validate(kuberay()[0], schema())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("entrypoint"),
        lambda s: s.update(entryPoint="x"),
        lambda s: s["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda s: s["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"),
        lambda s: s["rayClusterSpec"].update(rayversion="2"),
    ],
)
def test_the_reduced_schema_finds_mistakes(change: Any):
    job = copy.deepcopy(kuberay()[0])
    change(job["spec"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, schema())


def test_every_pod_mounts_the_claimed_volume_where_results_go():
    job, claim = kuberay()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    words = shlex.split(job["spec"]["entrypoint"])
    place = words[words.index("--storage-path") + 1]
    for name, pod in pods().items():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes), name
        source = volumes[mounts[place]]["persistentVolumeClaim"]
        assert source["claimName"] == claim["metadata"]["name"]
        assert container["resources"]["requests"] == container["resources"]["limits"], name


def test_the_files_name_this_ray_and_this_version():
    job, _ = kuberay()
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    images = [pod["containers"][0]["image"] for pod in pods().values()]
    for image in [*images, aws()["docker"]["image"]]:
        assert re.fullmatch(rf"REGISTRY/rllib-ppg:{re.escape(__version__)}-(cpu|cuda)", image)


def test_the_commands_in_the_files_are_understood():
    entry = shlex.split(kuberay()[0]["spec"]["entrypoint"])
    assert entry[:2] == ["rllib", "train"]
    flags = parse_train(typer.main.get_command(app), entry[2:])
    assert flags.wait_for_resources and flags.storage_path == "/results"
    experiment = Path(flags.files[0])
    assert experiment.parent == Path("/opt/rllib_ppg/experiments")
    assert (ROOT / "experiments" / experiment.name).is_file()
    (submitted,) = commands(AWS)
    assert submitted[:2] == ["rllib", "submit"]
    rest = submitted[2:]
    for option in ("--address", "--package"):
        place = rest.index(option)
        del rest[place : place + 2]
    assert (ROOT / parse_train(typer.main.get_command(app), rest).files[0]).is_file()


def test_shellcheck_finds_nothing_in_the_slurm_script():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run = subprocess.run([str(shellcheck), str(SLURM)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("environment", "words", "why"),
    [({}, ["-f", "x"], "not in a Slurm job"), ({"SLURM_JOB_NODELIST": "n"}, [], "nothing to")],
)
def test_the_slurm_script_says_what_is_missing(environment: dict, words: list[str], why: str):
    run = subprocess.run(
        ["bash", str(SLURM), *words], env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 2 and why in run.stderr
