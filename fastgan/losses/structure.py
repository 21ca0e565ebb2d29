"""The tensors of what a critic returns: one tensor, or lists, tuples and dicts of tensors, in each other."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor


def map_parts(f: Callable[[Any], Any], output: Any) -> Any:
    """The same lists, tuples and dicts, with f(part) for everything in them that is none of these."""
    if isinstance(output, dict):
        kind = OrderedDict if isinstance(output, OrderedDict) else dict
        return kind([(key, map_parts(f, value)) for key, value in output.items()])
    if isinstance(output, (list, tuple)):
        parts = [map_parts(f, part) for part in output]
        if isinstance(output, list):
            return parts
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    return f(output)


def parts_of(output: Any) -> list[Any]:
    """Everything in the lists, tuples and dicts that is none of these, in order."""
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [part for inner in output for part in parts_of(inner)]
    return [output]


def tensors_of(output: Any) -> list[Tensor]:
    """Its floating-point tensors, in order."""
    return [part for part in parts_of(output) if is_floating(part)]


def in_order_of(like: Any, output: Any) -> Any:
    """The same output, the entries of its dicts in the order of those of `like` where they have the same keys."""
    if isinstance(like, dict) and isinstance(output, dict) and like.keys() == output.keys():
        return {key: in_order_of(like[key], output[key]) for key in like}
    if isinstance(like, (list, tuple)) and isinstance(output, (list, tuple)) and len(like) == len(output):
        return [in_order_of(*pair) for pair in zip(like, output, strict=True)]
    return output


def is_floating(part: Any) -> bool:
    """Whether it is a tensor of real floating-point numbers."""
    return isinstance(part, Tensor) and part.is_floating_point()


def described(output: Any) -> str:
    """In words for messages: its classes, and the shapes of its tensors."""
    if isinstance(output, Tensor):
        return str(list(output.shape))
    if isinstance(output, dict):
        return "{" + ", ".join(f"{key!r}: {described(value)}" for key, value in output.items()) + "}"
    if isinstance(output, (list, tuple)):
        inside = ", ".join(described(value) for value in output)
        return f"a {type(output).__name__} of ({inside})"
    return "None" if output is None else f"a {type(output).__name__}"
