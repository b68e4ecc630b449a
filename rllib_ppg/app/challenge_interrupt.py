"""App: how what takes hours ends when a signal stops it: with the command that goes on."""

import sys
from collections.abc import Callable, Sequence

from rllib_ppg.app.evaluate_command import Stopped
from rllib_ppg.app.interrupt import Terminated, exit_code_of, sigterm_as_exception


def interruptible(
    body: Callable[[], int], begun: Callable[[], bool], command: Sequence[str]
) -> int:
    """Run what Ctrl-C and SIGTERM end with a line that says how to go on.

    Args:
        body: What is run; returns the exit code.
        begun: Whether there is something to resume.
        command: The words of the command line after `rllib`.
    """
    try:
        with sigterm_as_exception():
            return body()
    except Stopped as stop:
        say_how_to_go_on("Stopped; finished evaluations are kept.", command)
        return stop.exit_code
    except KeyboardInterrupt as error:  # outside of training and playing, which look after signals
        terminated = isinstance(error, Terminated)
        reason = "Terminated." if terminated else "Interrupted."
        if begun():
            say_how_to_go_on(reason, command)
        else:
            print(f"\n{reason} Nothing was begun.", file=sys.stderr)
        return exit_code_of(error)


def say_how_to_go_on(reason: str, command: Sequence[str]) -> None:
    """Print why it ended, and the command that goes on."""
    from rllib_ppg.app.report import resume_command

    print(f"\n{reason}\nGo on: {resume_command(command)}", file=sys.stderr)
