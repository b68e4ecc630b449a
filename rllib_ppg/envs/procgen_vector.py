"""Envs: many games of Procgen in one object, behind RLlib's VectorEnv and as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rllib_ppg._ray_compat import VectorEnv
from rllib_ppg.envs.arrays import StackedTransition, Transition, UnreadStacks
from rllib_ppg.envs.frame_stack import FrameStack, StaleFrameStack
from rllib_ppg.envs.procgen_library import import_procgen
from rllib_ppg.envs.procgen_options import ProcgenOptions, parse_options
from rllib_ppg.envs.state_counts import STATE_COLUMNS, StateCounts
from rllib_ppg.errors import UserError

# Procgen's action that ends the episode of a game, whatever happens in it (procgen/src/game.cpp).
FORCE_RESET = -1
MAX_NUM_ENVS = 65536


def derive_rand_seed(*entropy: int) -> int:
    """Mix numbers into a seed for Procgen, in [0, 2^31).

    Args:
        entropy: What makes this seed different from others, such as the user's seed and the
            worker's index.
    """
    words = np.random.SeedSequence([number & (2**64 - 1) for number in entropy])
    return int(words.generate_state(1)[0] >> 1)


class ProcgenVectorEnv(VectorEnv):
    """N games of Procgen, stepped by one call into the library.

    It is RLlib's `VectorEnv` (for RLlib's own sampler: lists, one reset at a time) and an
    `ArrayEnv` (for ours: whole arrays). Every game draws its levels from its own generator; the
    same seed and the same actions give the same run. An episode always ends as terminated:
    Procgen does not tell its time-outs from other ends. Rewards are the game's own; what the
    options shape stands beside them in a `Transition`, and is added for RLlib's own sampler.

    Args:
        options: The options, or an `env_config` to be checked.
        num_envs: N, at least 1.
        rand_seed: Seed for the choice of levels in [0, 2^31); None takes the options' own, and
            fresh entropy where that is None too.
        render: Draw large pictures for `render` on every step, which is slow.
        reuse_arrays: Whether the next step may overwrite the observations that are handed out,
            which saves copies. By default they never change.

    Raises:
        UserError: An option or the number of games is not allowed.
    """

    def __init__(
        self,
        options: ProcgenOptions | Mapping[str, Any],
        num_envs: int,
        *,
        rand_seed: int | None = None,
        render: bool = False,
        reuse_arrays: bool = False,
    ) -> None:
        if not 1 <= num_envs <= MAX_NUM_ENVS:
            raise UserError(f"{num_envs} Procgen games asked for; give 1 to {MAX_NUM_ENVS}.")
        self.options = options if isinstance(options, ProcgenOptions) else parse_options(options)
        self._render_mode = "rgb_array" if render else None
        self._reuse_arrays = reuse_arrays
        self._make_games(num_envs, self.options.rand_seed if rand_seed is None else rand_seed)
        image = self._games.ob_space["rgb"].shape
        shape = (*image[:-1], image[-1] * self.options.frame_stack)
        super().__init__(
            observation_space=gymnasium.spaces.Box(0, 255, shape, np.uint8),
            action_space=gymnasium.spaces.Discrete(self._games.ac_space.eltype.n),
            num_envs=num_envs,
        )

    @property
    def frame_stack(self) -> int:
        """Frames of one observation that may be kept one by one, k."""
        return self.options.separable_frames

    @property
    def return_min(self) -> float | None:
        """The game's lowest return, None where unknown; for wrappers to read (`env.unwrapped`)."""
        return self.options.return_constants().low

    @property
    def return_blind(self) -> float | None:
        """The return of an agent that sees nothing, None where unknown."""
        return self.options.return_constants().blind

    @property
    def return_max(self) -> float | None:
        """The game's best return, None where unknown."""
        return self.options.return_constants().high

    @property
    def sample_columns(self) -> dict[str, np.dtype[Any]]:
        """The columns that every transition gives."""
        return dict.fromkeys(STATE_COLUMNS, np.dtype(np.int64)) if self.options.count_states else {}

    def reset(self) -> np.ndarray:
        """Begin an episode in every game.

        Games that stand at the first frame of an episode are left as they are, if all do (so the
        first call plays the first levels); otherwise every game goes on to its next level.

        Returns:
            Observations uint8 (N, H, W, k * C) with k stacked frames.
        """
        # More than once only with sequential levels, where a solved level does not end the episode.
        while not self._firsts.all():
            self._act(np.full(self.num_envs, FORCE_RESET))
        self._counts = self._new_counts()
        return self._obs

    def observe(self) -> np.ndarray:
        """Return the current observations without stepping, uint8 (N, H, W, k * C)."""
        return self._obs

    def step(self, actions: np.ndarray) -> Transition:
        """Step every game; an ended one shows the first frame of its next episode.

        Args:
            actions: Integers (N,).
        """
        rewards = self._act(actions)
        dones = self._firsts.copy()  # the caller may write into it
        shaping, columns = self._count(dones)
        truncateds = np.zeros(self.num_envs, np.bool_)
        if self._reuse_arrays and self.frame_stack > 1:
            unread: Any = UnreadStacks(self._newest, lambda: self._obs)
            return StackedTransition(unread, rewards, dones, truncateds, {}, shaping, columns)
        return Transition(self._obs, rewards, dones, truncateds, {}, shaping, columns)

    def _count(self, dones: np.ndarray) -> tuple[np.ndarray | None, dict[str, np.ndarray] | None]:
        """Count the frames of a step: the shaping and the columns that it gives."""
        if self._counts is None:
            return None, None
        counts = self._counts.step(self._newest, dones)
        penalties = self.options.penalties
        columns = {name: getattr(counts, name) for name in self.sample_columns}
        return penalties(counts, dones) if penalties else None, columns or None

    def _new_counts(self) -> StateCounts | None:
        """Begin to count, where an option asks for it."""
        if not self.options.counts_frames:
            return None
        return StateCounts(self._newest, count_visits=self.options.counts_visits)

    def infos(self) -> list[dict[str, Any]]:
        """Return Procgen's numbers for each game: level_seed, prev_level_seed, and so on."""
        return [
            {name: int(value) for name, value in info.items() if name != "rgb"}
            for info in self._games.get_info()
        ]

    def render(self, index: int) -> np.ndarray:
        """Return a picture of one game, uint8 (H, W, 3).

        It is Procgen's picture for humans if the object was made with `render=True`, else the
        newest frame of the observation.
        """
        if self._render_mode is not None:
            return np.array(self._games.get_info()[index]["rgb"])
        return self._newest[index].copy()

    def get_state(self) -> dict[str, Any]:
        """Return all that the next steps depend on: games, level generators, stacked frames."""
        return {
            "options": self._state_options(),
            "games": self._games.get_state(),
            "frames": self._frames.get_state(),
            "counts": self._counts.get_state() if self._counts else None,
        }

    def set_state(self, state: dict[str, Any] | None) -> None:
        """Go on exactly where `get_state` was called; None changes nothing.

        Raises:
            ValueError: The state is of other options or another number of games. (The library
                would end the process, or mix both settings.)
        """
        if state is None:
            return
        if state["options"] != self._state_options() or len(state["games"]) != self.num_envs:
            raise ValueError(
                f"The saved state is of {len(state['games'])} games with {state['options']}; this "
                f"environment has {self.num_envs} with {self._state_options()}."
            )
        self._games.set_state(state["games"])
        self._frames.set_state(state["frames"])
        _, frames, firsts = self._games.observe()
        self._newest, self._firsts = frames["rgb"], firsts.copy()
        self._counts = self._new_counts()
        if self._counts is not None and state["counts"] is not None:
            self._counts.set_state(state["counts"])

    def close(self) -> None:
        """Free the games; the object cannot be used afterwards."""
        self._games.close()

    def reseed(self, seed: int) -> None:
        """Make the games anew with another seed for the choice of levels.

        Args:
            seed: Any whole number; mixed into one that Procgen takes.
        """
        self._games.close()
        self._make_games(self.num_envs, derive_rand_seed(seed))

    def vector_reset(
        self, *, seeds: Sequence[int | None] | None = None, options: Any = None
    ) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
        """Begin an episode in every game, as RLlib's own sampler asks for once.

        Args:
            seeds: Seeds for the choice of levels; the games are then made anew.
            options: Not used.
        """
        given = [seed for seed in seeds or () if seed is not None]
        if given:
            self._games.close()
            self._make_games(self.num_envs, derive_rand_seed(*given))
        return list(self._kept(self.reset())), self.infos()

    def reset_at(
        self, index: int | None = None, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the first observation of the episode that a game has just begun.

        Raises:
            ValueError: The game is in the middle of an episode, or a seed is given: Procgen can
                do neither for one game among several.
        """
        index = index or 0
        if seed is not None or not self._firsts[index]:
            raise ValueError(
                f"Procgen cannot restart game {index} alone in the middle of an episode, nor seed "
                "it alone; step until the episode ends, or reset all with vector_reset."
            )
        return self._kept(self._obs)[index], self.infos()[index]

    def vector_step(
        self, actions: Sequence[Any]
    ) -> tuple[list[np.ndarray], list[float], list[bool], list[bool], list[dict[str, Any]]]:
        """Step every game for RLlib's own sampler.

        The last observation of an ended episode is the one before it, once more: Procgen does not
        hand out the true last frame, and a frame of the next episode would be wrong.
        """
        previous = self._kept(self._obs)
        transition = self.step(np.asarray(actions))
        rewards = transition.rewards
        if transition.shaping is not None:
            rewards = rewards + transition.shaping
        obs = list(self._kept(transition.obs))
        for index in np.flatnonzero(transition.terminateds):
            obs[index] = previous[index]
        return (
            obs,
            rewards.tolist(),
            transition.terminateds.tolist(),
            transition.truncateds.tolist(),
            self.infos(),
        )

    def try_render_at(self, index: int | None = None) -> np.ndarray:
        """Return a picture of one game, uint8 (H, W, 3)."""
        return self.render(index or 0)

    def _make_games(self, num_envs: int, rand_seed: int | None) -> None:
        """Make all games with a seed and read their first frames."""
        self._games = import_procgen().ProcgenGym3Env(
            num=num_envs,
            rand_seed=rand_seed,
            render_mode=self._render_mode,
            **self.options.gym3_arguments(),
        )
        # gym3 would copy the frames: into new arrays, or here into those of the stack.
        self._games._reuse_arrays = self._reuse_arrays or self.options.frame_stack > 1
        stack = StaleFrameStack if self.options.stale_frame_stack else FrameStack
        self._frames = stack(self.options.frame_stack, reuse=self._reuse_arrays)
        self._read()
        self._counts = self._new_counts()

    @property
    def _obs(self) -> np.ndarray:
        """The current observations; the newest frame is stacked only now."""
        stacked = self._frames.stacked
        return self._newest if stacked is None else stacked

    def _act(self, actions: np.ndarray) -> np.ndarray:
        """Step the games and return their rewards (N,)."""
        self._frames.keep_deferred()  # the library writes the next frames over the last ones
        self._games.act(actions)
        return self._read()

    def _read(self) -> np.ndarray:
        """Take over what the library shows now and return the rewards of the last step (N,)."""
        rewards, frames, firsts = self._games.observe()
        self._newest, self._firsts = frames["rgb"], firsts.copy()
        if self._frames.num_frames > 1:
            self._frames.defer(self._newest, self._firsts)
        return np.array(rewards)

    def _kept(self, obs: np.ndarray) -> np.ndarray:
        """Return observations that RLlib's own sampler may keep."""
        return obs.copy() if self._reuse_arrays else obs

    def _state_options(self) -> dict[str, Any]:
        """Return the options that a saved state depends on."""
        return self.options.model_dump(exclude={"rand_seed", "num_threads"})
