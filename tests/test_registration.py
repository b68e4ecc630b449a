import logging
import subprocess
import sys

import pytest
from ray.tune.registry import _global_registry

import rllib_ppg
from rllib_ppg._ray_compat import ModelCatalog

TRAINABLE, ENV = "trainable_class", "env_creator"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CHECK = """
from ray.tune.registry import _global_registry as registry
print(registry.contains("trainable_class", "PPG"), registry.contains("env_creator", "procgen"))
"""


def test_touching_the_configuration_registers():
    # That unpickling a checkpoint does, too, is tested with the algorithm.
    assert run("from rllib_ppg import PPGConfig" + CHECK) == "True True"


def test_the_bare_import_loads_neither_ray_nor_torch():
    code = "import sys, rllib_ppg; print(sorted({'ray', 'torch', 'gymnasium'} & set(sys.modules)))"
    assert run(code) == "[]"


def test_registering_twice_is_no_mistake():
    rllib_ppg.register()
    rllib_ppg.register()
    assert _global_registry.contains(TRAINABLE, "PPG")
    assert _global_registry.contains(ENV, "procgen")
    for name in ("ppg_impala", "ppg_mlp"):
        assert _global_registry.contains("rllib_model", name), name
    assert ModelCatalog is not None


def test_only_rays_wrong_advice_on_policy_names_is_dropped(caplog: pytest.LogCaptureFixture):
    rllib_ppg.register()
    logger = logging.getLogger("ray.rllib.policy.policy")
    logger.propagate = True
    with caplog.at_level(logging.WARNING, "ray.rllib.policy.policy"):
        logger.warning("Can not figure out a durable policy name for %s", "PPGTorchPolicy")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'PPGConfg'"):
        rllib_ppg.PPGConfg  # noqa: B018
    assert {"PPG", "PPGConfig", "register", "UserError", "__version__"} <= set(dir(rllib_ppg))


@pytest.mark.slow
def test_registrations_come_back_after_ray_was_shut_down():
    code = """
import ray, rllib_ppg
for _ in range(2):
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    rllib_ppg.register()
    keys = ("trainable_class", "PPG"), ("env_creator", "procgen")
    found = [registry.contains(*key) for key in keys]
    ray.shutdown()
print(*found)
"""
    start = "from ray.tune.registry import _global_registry as registry\n"
    assert run(start + code).splitlines()[-1] == "True True"
