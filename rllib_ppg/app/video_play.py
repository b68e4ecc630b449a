"""App: play episodes in several cells at once, and say what each cell shows at every step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from rllib_ppg.algorithm.actions import to_env_actions
from rllib_ppg.algorithm.policy import PPGTorchPolicy
from rllib_ppg.core.distributions import ActionSpec, Distribution
from rllib_ppg.core.temperature import tempered
from rllib_ppg.envs.arrays import ArrayEnv


class Shot(NamedTuple):
    """What a cell shows in one frame.

    Attributes:
        picture: The environment's picture, uint8 (H, W, 3).
        name: The game.
        episode: Number of the episode, from 1.
        episodes: Episodes of this cell in all.
        total: Return so far; that of the whole episode once it has ended.
        value: The policy's estimate of what is still to come, in the units of the training's
            rewards; None where it was not asked for.
        probs: Probabilities of all actions (A,), those of several choices side by side; None
            where they were not asked for.
        chosen: Indices in `probs` of the action taken.
        over: The cell has played all of its episodes.
    """

    picture: np.ndarray
    name: str
    episode: int
    episodes: int
    total: float
    value: float | None
    probs: np.ndarray | None
    chosen: tuple[int, ...]
    over: bool


class Decision(NamedTuple):
    """What the policy made of one observation; `action` is the policy's own, categories from 0."""

    action: np.ndarray
    value: float | None
    probs: np.ndarray | None


class Player:
    """Acts for cells with a policy.

    Args:
        policy: The policy, its network in evaluation mode.
        temperature: Of the actions' distribution p, p^(1/temperature) is sampled; 0 takes the most
            likely action.
        with_values: Estimate values too. It changes no action.
        with_probs: Give the probabilities of discrete actions too.
    """

    def __init__(
        self,
        policy: PPGTorchPolicy,
        temperature: float,
        *,
        with_values: bool = False,
        with_probs: bool = False,
    ) -> None:
        self._network, self._spec = policy.network, policy.action_spec
        self._mapping = SimpleNamespace(**policy.config)
        self._device = next(policy.network.parameters()).device
        self._temperature = temperature
        self._with_values, self._with_probs = with_values, with_probs

    @torch.inference_mode()
    def decide(
        self,
        obs: np.ndarray,
        generators: Sequence[torch.Generator],
        before: Sequence[int] = (),
    ) -> list[Decision]:
        """Choose actions.

        Args:
            obs: Observations (N, ...).
            generators: N sources of chance, one a row.
            before: The policy's N actions before them, 0 where an episode begins; not read where
                the network does not take them.
        """
        frames = torch.from_numpy(obs).to(self._device)
        own = None
        if self._network.takes_prev_actions:
            own = torch.tensor(before, dtype=torch.int64, device=self._device)
        logits, values = self._network.policy(frames, own)
        if self._with_values and values is None:
            values = self._network.value(frames, own)
        inputs = tempered(self._spec, logits.float().cpu(), self._temperature)
        kept = values.float().cpu() if self._with_values and values is not None else None
        return [
            self._decision(inputs[row : row + 1], generator, None if kept is None else kept[row])
            for row, generator in enumerate(generators)
        ]

    def _decision(
        self, inputs: torch.Tensor, generator: torch.Generator, value: torch.Tensor | None
    ) -> Decision:
        dist: Distribution = self._spec.distribution(inputs)
        action = dist.sample(generator) if self._temperature else dist.mode()
        probs = probabilities(self._spec, inputs[0]) if self._with_probs else None
        return Decision(np.asarray(action), None if value is None else float(value), probs)

    def env_action(self, action: np.ndarray, env: ArrayEnv) -> np.ndarray:
        """The environment's action (1, ...), by the rollout worker's own mapping."""
        return to_env_actions(action, env.action_space, self._mapping)


def probabilities(spec: ActionSpec, inputs: torch.Tensor) -> np.ndarray:
    """Probabilities of discrete actions, those of several choices side by side (A,)."""
    parts = torch.split(inputs, list(spec.sizes))
    return np.concatenate([torch.softmax(part, dim=-1).numpy() for part in parts])


def chosen_bars(spec: ActionSpec, action: np.ndarray) -> tuple[int, ...]:
    """Where the chosen action stands in `probabilities`."""
    starts = np.cumsum([0, *spec.sizes[:-1]])
    return tuple(int(start + index) for start, index in zip(starts, action.ravel(), strict=True))


@dataclass
class Cell:
    """One environment and its part of the episodes.

    Attributes:
        env: An array environment with N = 1, whose `render` makes pictures.
        name: What it plays.
        episodes: Episodes to play.
        generator: Source of the actions' chance.
        pause: Frames that stay on an ended episode before the next one begins.
    """

    env: ArrayEnv
    name: str
    episodes: int
    generator: torch.Generator
    pause: int = 0

    def __post_init__(self) -> None:
        self._finished, self._waits, self._total = 0, 0, 0.0
        self._decision = Decision(np.zeros(0), None, None)
        self._chosen: tuple[int, ...] = ()
        self._begins = True
        self.obs = self.env.reset()

    @property
    def over(self) -> bool:
        """Whether all episodes have been played."""
        return self._finished == self.episodes

    @property
    def plays(self) -> bool:
        """Whether an episode is running."""
        return not self.over and not self._waits

    @property
    def finished(self) -> int:
        """Episodes that have ended."""
        return self._finished

    @property
    def before(self) -> int:
        """The policy's last action where it is a category; 0 where an episode begins."""
        action = self._decision.action
        return 0 if self._begins or action.size != 1 else int(action.item())

    def show(self, decision: Decision, chosen: tuple[int, ...]) -> None:
        """Take a picture of the state that a decision is about."""
        self._picture = np.array(self.env.render(0))
        self._decision, self._chosen = decision, chosen

    def shot(self) -> Shot:
        """What is to be seen now."""
        ended = self.over or self._waits > 0
        return Shot(
            self._picture, self.name, self._finished + (not ended), self.episodes, self._total,
            self._decision.value, self._decision.probs, self._chosen, self.over,
        )  # fmt: skip

    def advance(self, act: Callable[[np.ndarray, ArrayEnv], np.ndarray]) -> None:
        """Step the environment with the decision's action, or wait, or do nothing if over."""
        if self.over:
            return
        if self._waits:
            self._waits -= 1
            self._total = self._total if self._waits else 0.0
            return
        transition = self.env.step(act(self._decision.action, self.env))
        self.obs = transition.obs
        self._total += float(transition.rewards[0])
        self._begins = bool(transition.terminateds[0] or transition.truncateds[0])
        if self._begins:
            self._finished += 1
            self._waits = 0 if self.over else self.pause
            if not self.over and not self._waits:
                self._total = 0.0


def play(
    cells: Sequence[Cell], player: Player, spec: ActionSpec, max_steps: int
) -> Iterator[list[Shot]]:
    """Play until all cells are over, or for `max_steps` steps.

    Yields:
        What the cells show, one list a step; the last one after the last step.
    """
    for _ in range(max_steps):
        playing = [cell for cell in cells if cell.plays]
        if playing:
            obs = np.concatenate([cell.obs for cell in playing])
            before = [cell.before for cell in playing]
            decisions = player.decide(obs, [cell.generator for cell in playing], before)
            for cell, decision in zip(playing, decisions, strict=True):
                bars = () if decision.probs is None else chosen_bars(spec, decision.action)
                cell.show(decision, bars)
        yield [cell.shot() for cell in cells]
        for cell in cells:
            cell.advance(player.env_action)
        if all(cell.over for cell in cells):
            break
    yield [cell.shot() for cell in cells]
