"""Algorithm: the normalised score of an evaluation, and which table of constants it is by."""

from rllib_ppg.algorithm.evaluate_episodes import EpisodeStatistics
from rllib_ppg.algorithm.evaluate_levels import Task
from rllib_ppg.core.scores import TABLES, get_table, score_range, table_names
from rllib_ppg.errors import UserError

NO_TABLE = "none"


def choose_table(task: Task, wanted: str | None) -> str | None:
    """Return the score table for a task.

    Args:
        task: What is played.
        wanted: A table's name, or `NO_TABLE`; None for the first that has the game in its
            difficulty, if any.

    Raises:
        UserError: If the table is unknown, or lacks the game or its difficulty.
    """
    mode, name = task.distribution_mode, task.name
    fitting = [each for each in table_names(mode) if mode and name in TABLES[each].ranges]
    if wanted == NO_TABLE:
        return None
    if wanted is None:
        return fitting[0] if fitting else None
    table = get_table(wanted)
    if wanted in fitting:
        return wanted
    if mode is None:
        raise UserError(f"normalize={wanted}: score tables are for Procgen, not for {name}.")
    choice = f"give {' or '.join((*fitting, NO_TABLE))}"
    if mode != table.difficulty:
        raise UserError(
            f"normalize={wanted} holds for distribution_mode {table.difficulty}, and {name} is "
            f"played on {mode}; {choice}."
        )
    raise UserError(f"normalize={wanted} has no constants for {name}; {choice}.")


def score(task: Task, episodes: EpisodeStatistics, table: str | None) -> tuple[float, float] | None:
    """Return the mean normalised return and its standard error; None without a table."""
    if table is None:
        return None
    low, high = score_range(task.name, table)
    return (episodes.mean - low) / (high - low), episodes.stderr / (high - low)
