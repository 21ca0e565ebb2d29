"""The rules that freeze each ATen operation: `RULES` maps an operation to its `Rule`."""

from typing import Any

import torch

from fastgan.affine.rule import Rule
from fastgan.affine.rules import (
    activation,
    arithmetic,
    convolution,
    matmul,
    normalisation,
    piecewise,
    pooling,
    positions,
    reduction,
    refused,
    shape,
    spatial,
)

RULES: dict[Any, Rule] = {
    **activation.RULES,
    **arithmetic.RULES,
    **convolution.RULES,
    **matmul.RULES,
    **normalisation.RULES,
    **piecewise.RULES,
    **pooling.RULES,
    **positions.RULES,
    **reduction.RULES,
    **refused.RULES,
    **shape.RULES,
    **spatial.RULES,
}

FUNCTIONS: frozenset[type] = activation.FUNCTIONS | convolution.FUNCTIONS | refused.FUNCTIONS | spatial.FUNCTIONS
"""The autograd.Functions of fastgan that rules know: each runs one private operation that has a rule."""

aten = torch.ops.aten

CONSTANT = frozenset(
    overload
    for packet in (
        *(aten.detach, aten.empty_like, aten.zeros_like, aten.ones_like, aten.full_like),
        *(aten.rand_like, aten.randn_like, aten.randint_like, aten.bernoulli),
        *(aten.new_empty, aten.new_zeros, aten.new_ones, aten.new_full, aten.new_empty_strided),
        *(aten.sign, aten.sgn, aten.floor, aten.ceil, aten.round, aten.trunc, aten.heaviside),
    )
    for overload in (getattr(packet, name) for name in packet.overloads())
    if not overload._schema.is_mutable
)
"""Operations whose results are constants of the input: autograd propagates nothing, or zeros, through them."""


ADDITIONS = frozenset(
    {
        *(aten.add.Tensor, aten.sub.Tensor, aten.rsub.Tensor, aten.lerp.Scalar),
        *(aten.cat.default, aten.stack.default, aten.where.self, aten.masked_fill.Tensor),
    }
)
"""Operations that add or concatenate a constant, which autograd does not save: the recorder copies it."""


def _in_place() -> dict[Any, Any]:
    found = {}
    for overload in RULES:
        name = overload._schema.name + "_"
        packet = getattr(getattr(torch.ops, overload.namespace), name.split("::")[1], None)
        if packet is not None and overload._overloadname in packet.overloads():
            found[getattr(packet, overload._overloadname)] = overload
    return found


IN_PLACE: dict[Any, Any] = _in_place()
"""In-place operation -> the operation that computes the same out of place."""
