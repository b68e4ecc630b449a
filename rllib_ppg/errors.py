"""The one exception for a user's mistake, and how it shows what was given; for every layer."""


class UserError(ValueError):
    """A mistake in what the user gave.

    Its message stands alone: what was given, what is allowed, what to do. The command line prints
    it without a traceback and exits with code 2.
    """


def shown(value: object, width: int = 80) -> str:
    """What a message shows of a value that was given: its `repr`, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
