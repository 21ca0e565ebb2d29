"""The one exception for input that a person can correct."""


class UserError(ValueError):
    """Bad input, said in one line: which argument, what came and what was expected.

    The command line prints the message without a traceback and exits with status 2.
    """
