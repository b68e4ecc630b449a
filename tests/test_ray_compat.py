import ast
import inspect
from pathlib import Path

import pytest
import ray

from rllib_ppg import _ray_compat


def imported_names() -> set[str]:
    tree = ast.parse(Path(inspect.getsourcefile(_ray_compat) or "").read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def test_the_installed_ray_is_the_one_that_was_tried():
    assert ray.__version__.split(".")[:2] == ["2", "60"], "try everything before widening the pin"


@pytest.mark.parametrize("name", _ray_compat.__all__)
def test_ray_still_has(name: str):
    assert getattr(_ray_compat, name) is not None


def test_what_is_imported_is_what_is_handed_out():
    assert imported_names() == set(_ray_compat.__all__)
    assert sorted(_ray_compat.__all__, key=str) == sorted(set(_ray_compat.__all__))


def test_everything_handed_out_is_used():
    package = Path(_ray_compat.__file__).parent
    sources = [p.read_text(encoding="utf-8") for p in package.rglob("*.py")]
    used = "\n".join(text for text in sources if "_ray_compat import" in text)
    unused = [name for name in _ray_compat.__all__ if name not in used]
    assert not unused


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            "Algorithm",
            ["training_step", "setup", "__getstate__", "__setstate__", "validate_env", "get_policy",
             "from_checkpoint", "default_resource_request"],
        ),
        ("RolloutWorker", ["sample", "get_metrics", "set_global_vars", "get_policy"]),
        ("TorchPolicyV2", ["make_model_and_action_dist", "optimizer", "get_state", "get_weights"]),
        ("TorchDistributionWrapper", ["sample", "deterministic_sample", "logp", "kl", "entropy"]),
        ("AlgorithmConfig", ["validate", "update_from_dict", "to_dict", "api_stack", "build_algo"]),
        ("RLlibCallback", ["on_episode_created", "on_episode_start", "on_episode_step",
                           "on_episode_end", "on_sample_end", "on_postprocess_trajectory",
                           "on_learn_on_batch"]),
        ("EpisodeV2", ["step", "set_last_info", "length", "last_info_for"]),
    ],
)  # fmt: skip
def test_ray_still_has_the_methods_that_are_overridden_or_called(owner: str, names: list[str]):
    missing = [name for name in names if not hasattr(getattr(_ray_compat, owner), name)]
    assert not missing


def test_metrics_still_have_the_fields_that_are_filled():
    fields = set(_ray_compat.RolloutMetrics._fields)
    assert {"episode_length", "episode_reward", "custom_metrics", "hist_data", "media"} <= fields
