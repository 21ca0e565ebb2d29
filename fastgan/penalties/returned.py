"""Finds the critic's outputs among those of a graph that TorchDynamo hands over."""

from typing import Any

import torch
from torch import fx

from fastgan.penalties.outputs import Alone, Form

aten = torch.ops.aten


class Returned:
    """What the network that dynamo hands over returns; `programs._call` marks it by aliases.

    Attributes:
        index: the critic's output among the network's; None for a constant.
        shape: of that output.
        seed: the gradient of what is penalised with respect to several outputs joined; None for an output alone.
        form: how they are taken apart, known after a first call.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        (outputs,) = next(node for node in network.graph.nodes if node.op == "output").args
        marks = {_marks(node): i for i, node in enumerate(outputs)}
        self.index = marks.get(1, marks.get(2))
        self.seed = marks.get(3)
        self.shape: tuple[int, ...] = (
            () if self.index is None else tuple(outputs[self.index].meta["example_value"].shape)
        )
        self.form: Form | None = None

    def form_of(self, samples: int, reduce: str, result: Any) -> Form:
        """The form; `result` is what dynamo returned, None where only the backend knows."""
        if result is not None:
            self.form = result[1]
        elif self.seed is None:
            return Alone(samples, reduce)
        if self.form is None:
            raise RuntimeError(
                "critic_loss: another thread has reset torch.compile in the middle of a call; call again"
            )
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
