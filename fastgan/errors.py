"""`UserError`, for input that a person can correct."""


class UserError(ValueError):
    """Bad input, said in one line: which argument, what came and what was expected.

    The command line prints the message without a traceback and exits with status 2.
    """


def one_line(error: BaseException) -> str:
    """An exception's message, shortened to be part of a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
