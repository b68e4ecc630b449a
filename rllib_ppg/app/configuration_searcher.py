"""App: tells a searcher the objective of whole configurations, each of one trial or several."""

import itertools
import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ray.tune.search import Searcher
from ray.tune.utils import flatten_dict
from ray.tune.utils.util import merge_dicts

from rllib_ppg.app.objective import Objective
from rllib_ppg.app.yaml_reader import KeyPath


class ConfigurationSearcher(Searcher):
    """A searcher of Tune's between Tune and another one.

    It passes on the newest objective that is a number, where a result has none. With `over` each
    suggestion becomes several trials, one for each combination of its values, and the searcher is
    told their mean once all have ended; a configuration of which one trial failed has failed.

    Args:
        searcher: The other one. (By this name Tune finds it and keeps its state.)
        objective: What it is told.
        config: The configuration without what is searched.
        over: What each configuration is trained on, by path in the configuration.
    """

    def __init__(
        self,
        searcher: Searcher,
        objective: Objective,
        config: Mapping[str, Any],
        over: Mapping[KeyPath, list[Any]],
    ) -> None:
        super().__init__(metric=objective.metric, mode=objective.mode)
        self.searcher = searcher
        self._objective = objective
        self._config = dict(config)
        self._over = dict(over)
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._configs: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, str] = {}
        self._values: dict[str, float] = {}
        self._ended: dict[str, bool] = {}
        self._told: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's values: of a new configuration, or the current one's next member."""
        if not self._waiting:
            suggestion = self.searcher.suggest(trial_id)
            if suggestion is None or suggestion == Searcher.FINISHED:
                return suggestion
            self._waiting = [(trial_id, member) for member in self._members(suggestion)]
        group, config = self._waiting.pop(0)
        self._groups[trial_id] = group
        self._configs[trial_id] = config
        return deepcopy(config)

    def _members(self, suggestion: dict[str, Any]) -> list[dict[str, Any]]:
        members = []
        for values in itertools.product(*self._over.values()):
            member = deepcopy(suggestion)
            for path, value in zip(self._over, values, strict=True):
                member = merge_dicts(member, _nested(path, value))
            members.append(member)
        return members

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a trial's objective; pass it on where a configuration is one trial."""
        value = self._note(trial_id, result)
        if not self._over and not math.isnan(value):
            told = {**_counters(result), self._objective.metric: value}
            self.searcher.on_trial_result(trial_id, told)

    def _note(self, trial_id: str, result: Mapping[str, Any]) -> float:
        config = merge_dicts(self._config, self._configs.get(trial_id, {}))
        value = self._objective.of(result, config)
        if not math.isnan(value):
            self._values[trial_id] = value
        return self._values.get(trial_id, math.nan)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note a trial's end; tell the searcher once its configuration has ended."""
        if result:
            self._note(trial_id, flatten_dict(result, "/"))
        self._ended[trial_id] = error
        group = self._groups.get(trial_id, trial_id)
        members = [member for member, of in self._groups.items() if of == group]
        waiting = any(of == group for of, _ in self._waiting)
        if waiting or group in self._told or any(each not in self._ended for each in members):
            return
        self._told.add(group)
        values = [self._values.get(member, math.nan) for member in members]
        mean = sum(values) / len(values)
        failed = any(self._ended[member] for member in members)
        known = not failed and not math.isnan(mean)
        told = {**_counters(result or {}), self._objective.metric: mean} if known else None
        self.searcher.on_trial_complete(group, result=told, error=failed)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Let a searcher of Tune's own read its spaces from the configuration."""
        return bool(self.searcher.set_search_properties(None, None, config, **spec))

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Nothing: Tune limits the trials, not the configurations."""
        return False

    def get_state(self) -> dict[str, Any]:
        """Everything but the other searcher, which Tune saves by itself."""
        return {name: value for name, value in self.__dict__.items() if name != "searcher"}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of `get_state`."""
        self.__dict__.update(state)

    def save(self, checkpoint_path: str) -> None:
        """Save the other searcher."""
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Restore the other searcher."""
        self.searcher.restore(checkpoint_path)


def _nested(path: KeyPath, value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def _counters(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"training_iteration": result.get("training_iteration", 0)}
