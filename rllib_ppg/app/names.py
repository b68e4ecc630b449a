"""App: the nearest known name for a misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `names` that `name` was probably meant to be, or None; case does not count."""
    by_lower = {known.lower(): known for known in names}
    found = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """` Did you mean "..."?` for the nearest of `names`, or an empty string."""
    found = nearest(name, names, cutoff)
    return f' Did you mean "{found}"?' if found else ""
