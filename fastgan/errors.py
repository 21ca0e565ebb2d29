"""The one exception for input that a person can correct."""


class UserError(ValueError):
    """Bad input, said in one line: which argument, what came and what was expected.

    The command line prints the message without a traceback and exits with status 2.
    """


def one_line(error: BaseException) -> str:
    """What an exception says, short enough to be part of a one-line message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
