"""Walks autograd's graph."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def nodes_below(tensors: Iterable[Tensor], beyond: Iterable[Tensor] = ()) -> Iterator[Any]:
    """The nodes of autograd's graph that lead to some tensors, each once, in an order that only the graph determines.

    Not those of the tensors `beyond`, nor what is reached through these alone.
    """
    seen: set[Any] = {t.grad_fn for t in beyond}
    waiting: list[Any] = [t.grad_fn for t in tensors]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(parent for parent, _ in node.next_functions)


def leaf_of(node: Any) -> Tensor | None:
    """The leaf whose gradient a node accumulates; None for any other node."""
    return getattr(node, "variable", None)
