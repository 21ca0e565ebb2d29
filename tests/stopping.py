"""Raises exceptions at any place inside fastgan, for functions that must do their work completely or not at all."""

import sys


class StoppedError(BaseException):
    """Like KeyboardInterrupt: nobody handles it."""


def calls_of(apply, *arguments):
    """How many calls of fastgan's functions a change makes."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "call" and "/fastgan/" in frame.f_code.co_filename

    sys.settrace(trace)
    try:
        apply(*arguments)
    finally:
        sys.settrace(None)
    return count


def stops(apply, *arguments, after):
    """Whether the change was stopped, after some calls of fastgan's functions."""

    def trace(frame, event, _):
        nonlocal after
        after -= event == "call" and "/fastgan/" in frame.f_code.co_filename
        if after < 0:
            raise StoppedError

    sys.settrace(trace)
    try:
        apply(*arguments)
    except StoppedError:
        return True
    finally:
        sys.settrace(None)
    return False
