"""The one exception for a user's mistake; every layer may raise it."""


class UserError(ValueError):
    """A mistake in what the user gave.

    Its message stands alone: what was given, what is allowed, what to do. The command line prints
    it without a traceback and exits with code 2.
    """
