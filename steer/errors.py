"""Mistakes of users, and the one error that they raise."""


class SteerError(Exception):
    """A mistake or a limit the user can act on.

    The message is one line that says what was wrong, what was found and what to do.
    The command line prints it without a traceback and exits with code 2.
    """
