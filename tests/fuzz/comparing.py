"""Compares an outcome with the textbook's."""

from torch import Tensor

from tests.fuzz.running import Outcome

LIMIT = 1e-9
"""Relative. Rounding in float64 has 1e-16; a network of this size and two derivatives lose a few digits of it."""

LIMIT_OF_DIFFERENCES = 1e-4
"""Relative, of method="directional". At its step in float64 gradients are off by 1e-10, and by more if a critic is
curved; a jump at a kink, or a term that is missing, is of the size of the gradient."""

FLOOR = 1e-4
"""Programs compute numbers near 1: gradients below this are held to 1e-13, which is what rounding leaves of terms that
cancel (the weight of one number, divided by its norm). What counts of a small weight's gradient is its product with the
weight."""


def difference(found: Outcome, truth: Outcome, none_for_zeros: bool, limit: float = LIMIT) -> tuple[str, float] | None:
    """The first thing that differs, and how much; None if all is equal.

    Args:
        found, truth: of runs that raised nothing.
        none_for_zeros: whether None may stand for zeros, as documented.
        limit: of the relative error.
    """
    if len(found.values) != len(truth.values):
        return "the number of values", 1.0
    for i, (a, b) in enumerate(zip(found.values, truth.values, strict=True)):
        error = relative(a.reshape(b.shape) if a.numel() == b.numel() else a, b, 1.0)
        if not error <= limit:
            return f"value {i}", error
    least = _scale(truth)
    for name, b in truth.gradients.items():
        a = found.gradients[name]
        if a is None or b is None:
            if a is b or (a is None and none_for_zeros and b is not None and not b.any()):
                continue
            if a is not None and limit > LIMIT and not a.any():  # differences give a zero where there is no derivative
                continue
            return f"None for {name}" if a is None else f"no None for {name}", 1.0 if a is None and b.any() else 0.0
        error = relative(a, b, least / _size(truth, name))
        if not error <= limit:
            return f"gradient of {name}", error
    for name, b in truth.state.items():
        a = found.state.get(name)
        if a is None or a.shape != b.shape or a.dtype != b.dtype:
            return f"state {name}", 1.0
        error = relative(a, b, 1.0)
        if not error <= limit:
            return f"state {name}", error
    return None


def change(perturbed: Outcome, truth: Outcome) -> float:
    """The largest relative difference of two outcomes of the textbook; infinite where one of them failed."""
    if perturbed.error is not None or len(perturbed.values) != len(truth.values):
        return float("inf")
    least = _scale(truth)
    errors = [relative(a, b, 1.0) for a, b in zip(perturbed.values, truth.values, strict=True)]
    for name, b in truth.gradients.items():
        a = perturbed.gradients[name]
        if a is not None and b is not None:
            errors.append(relative(a, b, least / _size(truth, name)))
    errors += [relative(perturbed.state[name], b, 1.0) for name, b in truth.state.items()]  # what steps have made of it
    return max(errors, default=0.0)


def _scale(truth: Outcome) -> float:
    """Gradients below this are held to what rounding leaves of the terms that cancel in them."""
    computed = [*truth.values, *(t for t in truth.gradients.values() if t is not None)]
    return max(1e-3 * max(map(largest, computed), default=0.0), FLOOR)


def _size(truth: Outcome, name: str) -> float:
    """The largest number of a weight, from 1e-4 to 1; 1 for zeros and for what is no weight."""
    weight = truth.state.get(name)
    size = 0.0 if weight is None else largest(weight)
    return min(max(size, 1e-4), 1.0) if size else 1.0


def relative(a: Tensor, b: Tensor, least: float) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not b.numel():
        return 0.0
    return (a.double() - b.double()).abs().max().item() / max(largest(b), least)


def largest(t: Tensor) -> float:
    return t.double().abs().max().item() if t.numel() else 0.0
