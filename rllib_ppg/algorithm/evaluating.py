"""Algorithm: the part of `PPG` that evaluates while it trains."""

from typing import Any

from ray.tune import PlacementGroupFactory

from rllib_ppg._ray_compat import AlgorithmConfig
from rllib_ppg.algorithm.budgeted import Budgeted
from rllib_ppg.algorithm.evaluation import Evaluator
from rllib_ppg.errors import UserError

MAX_REASON = 400
"""Characters of a notice that tell why an evaluation failed."""


class Evaluating(Budgeted):
    """Evaluations by policy iterations, in place of RLlib's by training iterations."""

    @classmethod
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """What a trial asks Ray for: RLlib's request, and the evaluation workers."""
        request = super().default_resource_request(config)
        made = cls.get_default_config().update_from_dict(config)
        each = made.evaluation_cpus_each()
        workers = [{"CPU": each}] * made.evaluation_num_env_runners if each else []
        return PlacementGroupFactory([*request.bundles, *workers], strategy=request.strategy)

    @classmethod
    def _should_create_evaluation_env_runners(cls, eval_config: AlgorithmConfig) -> bool:
        """Never: `Evaluator` has workers of its own. RLlib's favour short episodes."""
        return False

    def _run_one_evaluation(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Nothing: RLlib counts training iterations, `step` counts policy iterations."""
        return {}

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Play the evaluation that the configuration describes, with the weights of now.

        Called again before the next policy iteration it plays the same episodes. The training goes
        on as if it had not been called.

        Returns:
            The numbers of `metrics.EVALUATION`.

        Raises:
            UserError: If the policy cannot act in what is to be played, or workers keep dying.
        """
        self.callbacks.on_evaluate_start(algorithm=self, metrics_logger=self.metrics)
        found = self._get_evaluator().run(self.get_policy(), self._totals["policy_iterations"])
        self.callbacks.on_evaluate_end(
            algorithm=self, metrics_logger=self.metrics, evaluation_metrics=found
        )
        return found

    def _begin_evaluations(self) -> None:
        self._evaluator: Evaluator | None = None
        if self.config.evaluation_interval:
            self._get_evaluator()  # what cannot be played is told before anything is trained

    def _get_evaluator(self) -> Evaluator:
        if self._evaluator is None:
            self._evaluator = Evaluator(
                self.config, self.get_policy(), lambda text: self._notices.append(text)
            )
        return self._evaluator

    def _evaluation_since(self, policy_iterations: int) -> dict[str, Any]:
        """An evaluation if one has come due since so many policy iterations, else NaNs."""
        interval = self.config.evaluation_interval
        if self._totals["policy_iterations"] // interval == policy_iterations // interval:
            return self._get_evaluator().nothing()
        try:
            return self.evaluate()
        except Exception as error:  # whatever an environment raises: the training needs none of it
            reason = shown_error(error)
            self._notices.append(f"This evaluation failed, training goes on. {reason}")
            return self._get_evaluator().nothing()

    def cleanup(self) -> None:
        """End all workers."""
        evaluator = getattr(self, "_evaluator", None)  # `setup` may have failed before
        if evaluator is not None:
            evaluator.close()
        super().cleanup()


def shown_error(error: Exception) -> str:
    """What went wrong, in one line."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return (kind + " ".join(str(error).split()))[:MAX_REASON]
