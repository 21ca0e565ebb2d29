"""`NotAffineError`, raised where a network cannot be recorded."""


class NotAffineError(RuntimeError):
    """A network is not, or not known to be, piecewise affine in its input sample by sample; the message says why."""
