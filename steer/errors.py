"""Mistakes of users, the one error that they raise, and its wording."""


class SteerError(Exception):
    """A mistake or a limit the user can act on.

    The message is one line that says what was wrong, what was found and what to do.
    The command line prints it without a traceback and exits with code 2.
    """


def counted(number: int, what: str) -> str:
    """Writes a number with its noun, such as "1 round" or "2,000 rounds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
