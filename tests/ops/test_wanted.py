"""wanted: what a backward pass is told of the gradients that somebody uses, in every way of asking for them."""

import pytest
import torch

from fastgan import _torch_private
from fastgan.ops._common.wanted import differentiated, wanted


class Product(torch.autograd.Function):
    """x w, which notes what it is asked for."""

    asked = ()

    @staticmethod
    def forward(ctx, x, w, constant):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, dy):
        Product.asked = (wanted(ctx, 0), wanted(ctx, 1))
        x, w = ctx.saved_tensors
        return dy * w, dy * x, None


def leaves():
    return [torch.randn(3, requires_grad=True) for _ in range(2)]


WAYS = {
    "grad to x": (lambda y, x, w: torch.autograd.grad(y, [x]), (True, False)),
    "grad to w": (lambda y, x, w: torch.autograd.grad(y, [w]), (False, True)),
    "grad to both": (lambda y, x, w: torch.autograd.grad(y, [x, w]), (True, True)),
    "create_graph": (lambda y, x, w: torch.autograd.grad(y, [x], create_graph=True), (True, False)),
    "backward": (lambda y, x, w: y.backward(), (True, True)),
    "backward to x": (lambda y, x, w: y.backward(inputs=[x]), (True, False)),
    "backward to w": (lambda y, x, w: y.backward(inputs=[w]), (False, True)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("depth", ["leaf", "asked for through a layer below", "asked for itself"])
def test_names_the_gradients_that_are_used(way, depth):
    run, expected = WAYS[way]
    x, w = leaves()
    below = (x, w) if depth == "leaf" else (x * 2, w * 2)
    run(Product.apply(*below, None).sum(), *(below if depth == "asked for itself" else (x, w)))
    assert Product.asked == expected


def test_says_no_for_what_requires_no_gradient():
    x, w = leaves()
    Product.apply(x.detach(), w, None).sum().backward()
    assert Product.asked == (False, True)


def test_says_yes_where_the_private_function_is_missing(monkeypatch):
    gone = _torch_private._part(torch._C, "_no_such_function")
    monkeypatch.setattr(_torch_private, "backward_pass_runs", gone)
    x, w = leaves()
    torch.autograd.grad(Product.apply(x, w, None).sum(), [x])
    assert Product.asked == (True, True)


def test_differentiated_is_for_the_eager_engine():
    x = torch.randn(3, requires_grad=True)
    assert differentiated(None, x)
    assert not differentiated(None, x.detach())
    with torch.no_grad():
        assert not differentiated(x)
    with torch.autograd.forward_ad.dual_level():
        assert not differentiated(x)
    assert torch.func.grad(lambda t: t.sum() * (0 if differentiated(t) else 1))(x).sum() == 3
    assert torch.equal(torch.compile(lambda t: t * (0 if differentiated(t) else 1), backend="aot_eager")(x), x)
