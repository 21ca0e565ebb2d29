"""Errors of methods that a critic does not qualify for, besides `fastgan.affine.NotAffineError`."""


class NotSmoothError(RuntimeError):
    """A critic is not, or not known to be, smooth in its samples; the message says why."""


class NoMethodError(RuntimeError):
    """None of the methods can differentiate the penalties of a critic; the message has each one's obstacle."""
