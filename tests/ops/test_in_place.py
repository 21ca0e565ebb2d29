"""Results of ops may be changed in place, as PyTorch's own results may: in every memory order that it takes.

One that was saved for the backward pass may not, as that of PyTorch's tanh; then autograd says that it was modified.
"""

import pytest
import torch

from fastgan.ops import upfirdn2d
from tests.ops.cases import INTERPRETING, compiled_cases, draw_weights, leaves, one_of_each_kind


def channels_last(t):
    return t.to(memory_format=torch.channels_last) if t.ndim == 4 else t


def reversed_in_memory(t):
    return t.permute(*reversed(range(t.ndim))).contiguous().permute(*reversed(range(t.ndim)))


KEPT = {"attention"}
"""Ops that save each of their results."""
ORDERS = {"as given": lambda t: t, "channels last": channels_last, "reversed": reversed_in_memory}


def doubled(function, tensors, weights, change):
    """The gradients of <w0, 2 y>, and those of <w1, 2 gradient>; `change` doubles y and the gradients."""
    given = [t for t in tensors if t is not None]
    w0, w1 = (w.clone().requires_grad_() for w in weights)
    y = change(function(tensors))
    first = [change(g) for g in torch.autograd.grad(y, given, w0, create_graph=True)]
    penalty = sum((g * w1.flatten()[: g.numel()].view_as(g)).sum() for g in first)
    second = torch.autograd.grad(penalty, [*given, w0], allow_unused=True)
    return [y.detach(), *(g.detach() for g in first), *second]


def is_kept(function, tensors) -> bool:
    """Whether the result is saved for the backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = function(tensors)
    return y.data_ptr() in kept


@pytest.mark.parametrize("order", list(ORDERS)[: 1 if INTERPRETING else None])
@pytest.mark.parametrize("case", compiled_cases())
def test_results_and_gradients_may_be_changed_in_place(case, order, generator):
    samples = case.samples(torch.float32, generator)
    changed = 0
    for sample in one_of_each_kind(samples) if INTERPRETING else samples:
        if not sample.tensors[0].numel() or sample.tensors[0].numel() > 1000:
            continue
        sample = sample.map(ORDERS[order])
        weights = draw_weights(case, sample, generator)

        def function(tensors, sample=sample):
            return case.call(tensors, sample.kwargs)

        if is_kept(function, leaves(sample)):
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                doubled(function, leaves(sample), weights, lambda t: t.mul_(2))
            continue
        expected = doubled(function, leaves(sample), weights, lambda t: t * 2)
        found = doubled(function, leaves(sample), weights, lambda t: t.mul_(2))
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b), sample.label
        changed += 1
    assert bool(changed) == (case.spec.name not in KEPT)


def test_a_result_stays_channels_last():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    y = upfirdn2d(x, None, padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert y.stride() == torch.empty(y.shape, memory_format=torch.channels_last).stride()
