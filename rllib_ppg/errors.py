"""The exceptions that a user is meant to read; every layer may raise them."""


class UserError(ValueError):
    """A mistake in what the user gave.

    Its message stands alone: what was given, what is allowed, what to do. The command line prints
    it without a traceback and exits with code 2.
    """


class OutOfMemory(MemoryError):
    """Training needs more memory than there is, and would again after a restart.

    Its message stands alone: what was done, what was asked for where that is known, what to lower.
    """
