"""The nearest known name for a misspelt one; every layer may use it."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `names` that `name` was probably meant to be, or None; case does not count.

    Args:
        name: What was given.
        names: What is known.
        cutoff: How alike the two must be, from 0 (not at all) to 1 (equal).
    """
    by_lower = {known.lower(): known for known in names}
    found = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """` Did you mean "..."?` for the nearest of `names`, or an empty string."""
    found = nearest(name, names, cutoff)
    return f' Did you mean "{found}"?' if found else ""
