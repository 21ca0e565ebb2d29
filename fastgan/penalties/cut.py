"""Cuts a graph of the passes F, X, T and W in two: before the loss is known (F, X), and after it (T, W)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fastgan.affine.memory import block_of
from fastgan.penalties.programs import CompilerError

aten = torch.ops.aten

_COPIES = (aten.clone.default, aten.detach.default, aten.alias.default)
"""Of a constant: a copy, and what `detach()` is traced as (an alias from PyTorch 2.15 on)."""


class Cut:
    """A graph (inputs, u, s) -> (outputs, g, gradients), cut into what depends on u and s and what does not.

    Attributes:
        early: inputs -> (*outputs, g, *kept), and late: for each group of gradients (*kept, u, s) -> those that there
            are.
        gives: for each group, which gradients there are.
        views: which of the outputs lie in the memory of an input.
        written: the inputs that are changed in place.
    """

    def __init__(self, whole: fx.GraphModule, inputs: int, groups: Sequence[int]) -> None:
        """`groups` are the numbers of gradients, which come last among the results."""
        self.nodes = list(whole.graph.nodes)
        if any(isinstance(n.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)) for n in self.nodes):
            raise CompilerError("the critic reads a number out of a tensor")
        placeholders = [n for n in self.nodes if n.op == "placeholder"]
        self.is_late = set(placeholders[inputs:])
        for node in self.nodes:
            if node.op not in ("placeholder", "output") and any(p in self.is_late for p in node.all_input_nodes):
                self.is_late.add(node)
        self.writes = self._writes()
        results = list(next(n for n in self.nodes if n.op == "output").args[0])
        first = len(results) - sum(groups)
        gradients, outputs = iter(results[first:]), results[: first - 1]
        each = [[next(gradients) for _ in range(number)] for number in groups]
        self.gives = [[isinstance(n, fx.Node) for n in group] for group in each]
        found = [[n for n in group if isinstance(n, fx.Node)] for group in each]
        read = [n for group in found for n in group] + [p for n in self.is_late for p in n.all_input_nodes]
        originals = {node: self._original(node) for node in dict.fromkeys(read) if node not in self.is_late}
        kept = list(dict.fromkeys(originals.values()))
        memory = [_memory(p) for p in placeholders[:inputs]]
        self.written = {j for j, m in enumerate(memory) if m in self.writes}
        self.views = {i for i, o in enumerate(outputs) if _memory(o) is not None and _memory(o) in memory}
        self._check_writes(kept, memory)
        self.early = self._early(whole, [*results[:first], *kept])
        self.late = [self._late(whole, kept, originals, group) for group in found]

    def _writes(self) -> dict[Any, list[int]]:
        """The positions of the nodes that write to each tensor's memory."""
        found: dict[Any, list[int]] = {}
        for i, node in enumerate(self.nodes):
            schema = getattr(node.target, "_schema", None)
            for place, argument in enumerate(schema.arguments if schema else ()):
                if argument.alias_info is None or not argument.alias_info.is_write:
                    continue
                given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
                for written in given if isinstance(given, (list, tuple)) else (given,):
                    if isinstance(written, fx.Node):
                        found.setdefault(_memory(written), []).append(i)
        return found

    def _original(self, node: fx.Node) -> fx.Node:
        """The original of a copied constant, if nobody writes to it (the recorder copies every constant)."""
        while node.target in _COPIES and len(node.args) == 1 and not node.kwargs:
            source: Any = node.args[0]
            same = source.meta["val"].stride() == node.meta["val"].stride()
            if not same or _memory(source) in self.writes or _memory(node) in self.writes:
                break
            node = source
        return node

    def _check_writes(self, kept: list[fx.Node], memory: list[Any]) -> None:
        """Raises CompilerError where an input that is kept is written to afterwards."""
        at = {node: i for i, node in enumerate(self.nodes)}
        for node in kept:
            if _memory(node) in memory and any(i > at[node] for i in self.writes.get(_memory(node), ())):
                raise CompilerError("the critic's forward changes a tensor in place of which it has made a weight")

    def _early(self, whole: fx.GraphModule, results: Any) -> fx.GraphModule:
        graph, copies = fx.Graph(), {}  # type: ignore[var-annotated]
        for node in self.nodes:
            if node.op != "output" and node not in self.is_late:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(fx.node.map_arg(results, copies.__getitem__))
        for node in reversed(graph.nodes):
            if node.target is aten.clone.default and not node.users:
                graph.erase_node(node)
        return fx.GraphModule(whole, graph)

    def _late(
        self, whole: fx.GraphModule, kept: list[fx.Node], originals: dict[fx.Node, fx.Node], gradients: list[Any]
    ) -> fx.GraphModule:
        graph, copies = fx.Graph(), {}
        for i, node in enumerate(kept):
            copies[node] = graph.placeholder(f"kept_{i}")
            copies[node].meta = node.meta
        copies.update({node: copies[original] for node, original in originals.items()})
        for node in self.nodes:
            if node in self.is_late:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(fx.node.map_arg(gradients, copies.__getitem__))
        graph.eliminate_dead_code()
        return fx.GraphModule(whole, graph)


def _memory(node: Any) -> Any:
    """A key of the memory that a node's tensor lies in; None for what is no tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return block_of(value) if isinstance(value, Tensor) else None
