"""A process that resumes checkpoints and prints what their weights become.

python resumed.py '{"FOLDER": ITERATIONS, ...}'
"""

import hashlib
import json
import sys

import numpy as np

from rllib_ppg import PPG


def digest(algorithm: PPG) -> str:
    """A checksum of the policy's weights: their names, formats and bits."""
    found = hashlib.sha256()
    for name, value in sorted(algorithm.get_policy().get_weights().items()):
        array = np.ascontiguousarray(value)
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def resume(folder: str, iterations: int) -> list[str]:
    """Digests after each of so many iterations."""
    algorithm = PPG.from_checkpoint(folder)
    digests = []
    for _ in range(iterations):
        algorithm.train()
        digests.append(digest(algorithm))
    algorithm.stop()
    return digests


if __name__ == "__main__":
    import ray

    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 1024**2,
    )
    made = {folder: resume(folder, count) for folder, count in json.loads(sys.argv[1]).items()}
    print(json.dumps(made))
    ray.shutdown()
