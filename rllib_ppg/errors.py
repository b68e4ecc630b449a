"""The exceptions that a user is meant to read, and how they show what was given."""


class UserError(ValueError):
    """A mistake in what the user gave.

    Its message stands alone: what was given, what is allowed, what to do. The command line prints
    it without a traceback and exits with code 2.
    """


def shown(value: object, width: int = 80) -> str:
    """What a message shows of a value that was given: its `repr`, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def told(error: OSError) -> str:
    """What a message says of an error of the operating system: what is wrong, with which file."""
    if error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return " ".join((error.strerror or str(error)).split()).rstrip(".")


class OutOfMemory(MemoryError):
    """Training needs more memory than there is, and would again after a restart.

    Its message stands alone: what was done, what was asked for where that is known, what to lower.
    """


class WorkersLost(RuntimeError):
    """No rollout worker is left, or one was lost where the user wants a run to end then."""
