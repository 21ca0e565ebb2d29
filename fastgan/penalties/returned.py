"""Finds the critic's outputs among those of a graph that TorchDynamo hands over."""

from typing import Any

import torch
from torch import fx

from fastgan.penalties.outputs import Form, Outputs, Part

aten = torch.ops.aten


class Returned:
    """What the network that dynamo hands over returns; `programs._call` marks it by aliases.

    Attributes:
        indices: the parts of the critic's output among the network's; none of a constant.
        shapes: of those.
        times_judged: how often each is judged.
        form: what they are parts of, known after a first call.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        (outputs,) = next(node for node in network.graph.nodes if node.op == "output").args
        marked = [(i, node) for i, node in enumerate(outputs) if _marks(node)]
        self.indices = [i for i, _ in marked]
        self.shapes = [tuple(node.meta["example_value"].shape) for _, node in marked]
        self.times_judged = [_marks(node) - 1 for _, node in marked]
        self.form: Form | None = None

    def form_of(self, outputs: Outputs, samples: int, result: Any) -> Form:
        """The form; `result` is what dynamo returned, None where only the backend knows."""
        if result is not None:
            self.form = result[1]
        elif outputs.judge is None and len(self.indices) == 1:
            return Form(Part(0), Part(0), samples, outputs.reduce)
        if self.form is None:
            raise RuntimeError("critic_loss: another thread has reset torch.compile within a call: call again")
        return self.form


def without_marks(network: fx.GraphModule) -> None:
    """Removes the aliases that mark what is returned."""
    (outputs,) = next(node for node in network.graph.nodes if node.op == "output").args
    for node in outputs:
        while _marks(node):
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
            node = node.args[0]
    network.recompile()


def _marks(node: Any) -> int:
    """The number of aliases that an output of the network has."""
    is_alias = isinstance(node, fx.Node) and node.target is aten.alias.default
    return 1 + _marks(node.args[0]) if is_alias else 0
