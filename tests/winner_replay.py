"""Runs `PPG` itself on recorded games, to compare whole runs with a winner's own.

What the games show, which actions are taken and what is drawn is recorded. All else is PPG's: its
worker, its loop and order, its schedules, its learner.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import golden_files
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from toy_envs import StackedEnv

from rllib_ppg import PPG, PPGConfig
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.core.aux_phase import AuxPhase, AuxStep
from rllib_ppg.core.distributions import ActionSpec, Categorical
from rllib_ppg.core.policy_loss import PolicyBatch
from rllib_ppg.core.policy_phase import PolicyStep
from rllib_ppg.core.reward_norm import RewardPipeline
from rllib_ppg.envs.arrays import Transition

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"

# Of the machine, and of what is played.
_PLACE = ("env", "env_config", "num_env_runners", "num_gpus", "num_envs", "rollout_fragment_length")


@dataclass(frozen=True)
class Recording:
    """What N games of I iterations of T steps show, environment first.

    Attributes:
        obs: Observations with all their frames (I, N, T, H, W, C).
        final_obs: Those after the last step of each iteration (I, N, H, W, C).
        actions: int64 (I, N, T).
        rewards: Raw ones (I, N, T).
        dones: bool (I, N, T).
        frame_size: Channels of one frame.
        shaping: What is added to the rewards, but not to an episode's return (I, N, T).
        columns: What the games count, by its name (I, N, T).
    """

    obs: np.ndarray
    final_obs: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    frame_size: int = 3
    shaping: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert np.array_equal(self.final_obs[:-1], self.obs[1:, :, 0]), "iterations do not follow"

    def shown(self) -> np.ndarray:
        """All observations in order (I * T + 1, N, H, W, C)."""
        steps = self.obs.swapaxes(1, 2)
        return np.concatenate([steps.reshape(-1, *steps.shape[2:]), self.final_obs[-1:]])

    def by_step(self, array: np.ndarray) -> np.ndarray:
        """Numbers (I, N, T) in order (I * T, N)."""
        return array.swapaxes(1, 2).reshape(-1, array.shape[1])

    def firsts(self) -> np.ndarray:
        """Whether each observation begins an episode (I * T + 1, N)."""
        dones = self.by_step(self.dones)
        return np.concatenate([np.ones_like(dones[:1]), dones])

    @property
    def frame_stack(self) -> int:
        """Frames that an observation stacks; 1 where they are no stacks of the frames before."""
        shown, size = self.shown(), self.frame_size
        older, newer = shown[..., :-size], shown[..., size:]
        first = self.firsts()
        copies = shown.shape[-1] // size
        starts = np.concatenate([shown[..., -size:]] * copies, axis=-1)
        follows = np.array_equal(older[1:][~first[1:]], newer[:-1][~first[1:]])
        first[-1] = False  # what follows an episode that ends with the recording is never acted on
        return copies if follows and np.array_equal(shown[first], starts[first]) else 1


class RecordedEnv(StackedEnv):
    """Plays a recording, and insists on its actions."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.num_envs = context.num_envs  # type: ignore[attr-defined]
        self.observation_space = Box(0, 255, tuple(context["obs_shape"]), np.uint8)
        self.action_space = Discrete(context["num_actions"])
        self.frame_stack = context["frame_stack"]
        self.sample_columns = {name: np.dtype(np.int64) for name in context["columns"]}

    def play(self, recording: Recording) -> None:
        self._recording, self._shown, self._at = recording, recording.shown(), 0

    def reset(self) -> np.ndarray:
        return self.observe()

    def observe(self) -> np.ndarray:
        return self._shown[self._at]

    def step(self, actions: np.ndarray) -> Transition:
        recording = self._recording
        np.testing.assert_array_equal(actions, self._of_step(recording.actions))
        shaping = None if recording.shaping is None else self._of_step(recording.shaping)
        columns = {name: self._of_step(array) for name, array in recording.columns.items()}
        rewards = self._of_step(recording.rewards).astype(np.float32)
        dones = self._of_step(recording.dones)
        self._at += 1
        none = np.zeros_like(dones)
        return Transition(self.observe(), rewards, dones, none, {}, shaping, columns)

    def _of_step(self, array: np.ndarray) -> np.ndarray:
        return self._recording.by_step(array)[self._at]


class Chosen(Categorical):
    """The policy's distribution, of which the recorded actions are drawn."""

    def __init__(self, inputs: torch.Tensor, actions: np.ndarray) -> None:
        super().__init__(inputs)
        self._actions = torch.from_numpy(actions)

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        return self._actions


@dataclass(frozen=True)
class RecordedActions(ActionSpec):
    """Gives the recorded actions, one step after the other."""

    actions: Iterator[np.ndarray]

    def distribution(self, inputs: torch.Tensor) -> Chosen:
        return Chosen(inputs, next(self.actions))


class NotedRewards(RewardPipeline):
    """Keeps the last rewards that it made (T, N)."""

    last: np.ndarray

    def __call__(self, *args: Any) -> np.ndarray:
        self.last = super().__call__(*args)
        return self.last


def experiment_options(name: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of `experiments/<name>.yaml`, but those of the machine and of the game.

    Args:
        name: The file.
        without: Further keys that are left out.
    """
    (experiment,) = load_experiments(TrainFlags(files=[str(EXPERIMENTS / f"{name}.yaml")]))
    return {k: v for k, v in experiment.config.items() if k not in (*_PLACE, *without)}


class AnySize(PPGConfig):
    """A configuration whose last auxiliary minibatch may have fewer segments than the others."""

    def _check_sizes(self) -> None:
        """A user's have to be whole."""


def build(
    options: Mapping[str, Any],
    recording: Recording,
    num_actions: int,
    weights: Mapping[str, torch.Tensor],
    *,
    permutations: Iterator[np.ndarray] | None = None,
    draw: Callable[..., Any] | None = None,
    whole: bool = True,
) -> PPG:
    """Build the algorithm as an experiment file does, and let it play the recording.

    Args:
        options: Keys of an experiment file, without sizes and environment.
        recording: What is played.
        num_actions: A.
        weights: Of the network, all of them.
        permutations: What is drawn instead of the learner's own.
        draw: Gives augmentation and dropout instead of the learner's generator.
        whole: Check that auxiliary minibatches of segments are whole.
    """
    _, num_envs, num_steps = recording.actions.shape
    place = {
        "obs_shape": recording.obs.shape[3:],
        "num_actions": num_actions,
        "frame_stack": recording.frame_stack,
        "columns": list(recording.columns),
    }
    config = (PPGConfig if whole else AnySize)().environment(RecordedEnv, env_config=place)
    sizes = {"num_envs": num_envs, "rollout_fragment_length": num_steps}
    algorithm: PPG = config.update_from_dict({**sizes, **options}).build_algo()
    policy, learner = algorithm.get_policy(), algorithm._learner
    policy.network.load_state_dict(weights, strict=True)
    actions = iter(recording.by_step(recording.actions))
    policy.action_spec = RecordedActions(policy.action_spec.kind, policy.action_spec.sizes, actions)
    algorithm.env_runner.array_env.play(recording)
    if permutations is not None:
        learner._permutation = golden_files.replay(permutations)
    if draw is not None:
        learner._noise._draw = draw
    return algorithm


def watch(
    algorithm: PPG,
    policy: Callable[[PolicyBatch, Iterator[PolicyStep]], Iterator[PolicyStep]],
    aux: Callable[[AuxPhase], Callable[[AuxStep], None]],
) -> None:
    """Look at every optimiser step that the algorithm makes, when it has made it.

    Args:
        algorithm: The algorithm.
        policy: Takes the batch and the steps of a policy phase, and gives the same steps.
        aux: Takes an auxiliary phase that begins, and gives what to call after each of its steps.
    """
    learner = algorithm._learner
    steps, begin = learner.policy_steps, learner.begin_aux_phase

    def begin_watched(*args: Any, **options: Any) -> AuxPhase:
        phase = begin(*args, **options)
        after, step = aux(phase), phase.step

        def watched() -> AuxStep | None:
            made = step()
            if made is not None:
                after(made)
            return made

        phase.step = watched  # type: ignore[method-assign]
        return phase

    algorithm._rewards.__class__ = NotedRewards
    learner.policy_steps = lambda batch: policy(batch, steps(batch))
    learner.begin_aux_phase = begin_watched


def train_iteration(algorithm: PPG) -> list[dict[str, Any]]:
    """Run a policy iteration, and the auxiliary phase that follows it, if one does.

    Returns:
        The results of all training iterations that it takes.
    """
    results = [algorithm.train()]
    while algorithm._aux_phase is not None:
        results.append(algorithm.train())
    return results
