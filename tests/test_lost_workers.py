"""Why a worker was lost, as it is told."""

import ray
from ray.exceptions import OutOfMemoryError

from rllib_ppg.algorithm.lost_workers import DIED, cause_of
from rllib_ppg.algorithm.out_of_memory import killed_for_memory


def test_a_worker_that_the_memory_monitor_killed_says_what_to_lower():
    text = "Task was killed due to the node running low on memory.\nRefer to the documentation: x"
    cause = cause_of(OutOfMemoryError(text))
    assert cause.startswith("Ray's memory monitor stopped it") and "Lower num_envs" in cause
    assert "Refer to" not in cause
    assert cause.replace("stopped it", "stopped the trial") == killed_for_memory("the trial")


def test_a_process_that_ended_is_told_as_a_guess(ray_local):
    @ray.remote(num_cpus=0)
    class Actor:
        def die(self) -> None:
            import os

            os._exit(1)

    actor = Actor.remote()
    try:
        ray.get(actor.die.remote())
    except ray.exceptions.RayError as error:
        assert cause_of(error) == DIED
    else:
        raise AssertionError("it answered")
