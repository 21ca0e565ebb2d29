"""The one way in which recording a network fails."""


class NotAffineError(RuntimeError):
    """A network is not piecewise affine in its input, sample by sample, or that could not be shown; says why."""
