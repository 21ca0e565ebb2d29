"""Weights that are computed: normalised, standardised, shared, from statistics without a gradient."""

from typing import Any

from tests.fuzz.operations.arithmetic import broadcastable
from tests.fuzz.operations.registry import Live, Out, operation


@operation(weight=1.2)
def standardised(g: Any, h: Live) -> Out:
    """Weight standardisation, or an equalised learning rate by hand."""
    out, t = g.whole(1, 3), g.name()
    w = g.parameter(out, h.shape[-1])
    made = g.pick(
        f"({w} - {w}.mean(1, keepdim=True)) / ({w}.std(1, keepdim=True, correction=0) + 0.1)",
        f"{w} * {h.shape[-1]} ** -0.5",
        f"{w} / {w}.norm()",
        f"F.normalize({w}, dim=1)",
        f"{w}.softmax(1)",
        f"{w} * {w}",
    )
    return Out(f"F.linear({h}, {t})", (f"{t} = {made}",))


@operation("any", weight=1.2)
def scaled_by_statistics(g: Any, h: Live) -> Out:
    """A parameter times a number that is measured without a gradient."""
    t = g.name()
    p = g.parameter(*broadcastable(g, h), near_one=True)
    measured = g.pick(
        f"1 / (1 + {h}.abs().mean())",
        f"{h}.detach().abs().mean()",
        f"{h}.abs().amax() * 0.1 + 0.5",
        f"{p}.norm().detach()",
    )
    return Out(
        g.pick(f"{h} * ({p} * {t})", f"{h} + {p} * {t}", f"{h} / ({p} + {t})"),
        ("with torch.no_grad():", f"    {t} = {measured}"),
    )


@operation(weight=1.2)
def parameter_in_two_ways(g: Any, h: Live) -> str:
    """As a weight, and as a bias."""
    p = g.parameter(h.channels)
    wide = f"{p}[(slice(None),) + (None,) * {h.ndim - 2}]"
    m = g.module(f"nn.Linear({h.shape[-1]}, {h.shape[-1]})")
    return g.pick(
        f"{h} * {wide} + {wide}",
        f"F.leaky_relu({h} * {wide}, 0.2) + {wide}",
        f"({h} + {wide}) / ({wide}.abs() + 1)",
        f"{m}({h}) * {m}.bias",
        f"{m}({h}) + {m}.weight.mean(0)",
        f"{m}({h} * {m}.bias)",
        f"{h} @ {m}.weight + {m}.bias",
        f"F.linear({h}, {m}.weight[:1], {m}.bias[:1])",
        f"{h} + {m}.weight.sum() * {m}({h})",
    )


@operation("any", weight=1.2)
def made_of_rounded_activations(g: Any, h: Live) -> str:
    """A weight that autograd joins to the input by a derivative of zero."""
    o = g.like(h)
    p = g.parameter(*broadcastable(g, h), near_one=True)
    return g.pick(
        f"{h} * ({p} * {o}.sign())",
        f"{h} * ({p} * {o}.detach())",
        f"{h} + {p} * ({o} > 0)",
        f"{h} * ({p} * {o}.round())",
        f"{h} + {p} * {o}.detach().abs()",
        f"{h} - {p} * {o}.floor()",
    )


@operation("any", weight=1.5)
def tried_without_gradient(g: Any, h: Live) -> Out:
    """The same twice, first under no_grad: what is refused there must be refused again."""
    o = g.other(lambda o: o.shape == h.shape and o.dim == h.dim and o.folded == h.folded)
    o = h if o is None else o
    p = g.parameter(*broadcastable(g, h), near_one=True)
    t = g.name()
    made = g.pick(
        f"{p} * {o}.round()",
        f"{p} * StraightThrough.apply({o})",
        f"{p} * Rounding.apply({o})",
        f"{p} * {o}.sign()",
        f"{p}.exp()",
    )
    code = g.pick(f"{h} * {t}", f"{h} + {t}", f"torch.where({h} > 0, {h}, {t})", f"torch.maximum({h}, {t})")
    return Out(code, (f"{t} = {made}", "with torch.no_grad():", f"    {code}"))


@operation(weight=1)
def power_iteration(g: Any, h: Live) -> Out:
    """A spectral norm by hand, its vector changed in place; without a clone PyTorch refuses a second forward pass."""
    out = g.whole(1, 3)
    w = g.parameter(out, h.shape[-1])
    u = g.buffer(f"F.normalize(torch.randn({out}), dim=0)")
    t, v = g.name(), g.name()
    held = g.pick(f"{u} if CHANGED else {u}.clone()", f"{u}.clone()", f"{u}.clone()")
    return Out(
        f"F.linear({h}, {w} / {t})",
        (
            "with torch.no_grad():",
            f"    {v} = F.normalize({w}.t() @ {u}, dim=0)",
            f"    {u}.copy_(F.normalize({w} @ {v}, dim=0))",
            f"{t} = torch.dot({held}, {w} @ {v})",
        ),
    )


@operation("positions", weight=0.6)
def kernel_of_the_label(g: Any, h: Live) -> str | None:
    """A depthwise product with a kernel for each class."""
    if not g.labelled():
        return None
    e = g.module(f"nn.Embedding(4, {h.channels})")
    wide = f"[(...,) + (None,) * {h.ndim - 2}]"
    return g.pick(f"{h} * {e}(y){wide}", f"{h} * {e}.weight[y]{wide}", f"{h} + F.embedding(y, {e}.weight){wide}")


@operation(weight=0.7)
def replaced_weight(g: Any, h: Live) -> Out:
    """A layer whose weight forward swaps or reads from elsewhere."""
    n = h.shape[-1]
    m, w = g.module(f"nn.Linear({n}, {n})"), g.parameter(n, n)
    t = g.name()
    return g.pick(
        Out(f"torch.func.functional_call({m}, {{'weight': {w}, 'bias': {m}.bias}}, ({h},))"),
        Out(f"F.linear({h}, {t}, {m}.bias)", (f"{t} = torch.lerp({m}.weight, {w}, 0.3)",)),
        Out(f"F.linear({h}, {t})", (f"{t} = {m}.weight.detach() + {w} - {w}.detach()",)),
        Out(f"F.linear({h}, {t}.view({n}, {n}))", (f"{t} = torch.cat([{w}.flatten(), {m}.bias])[:{n * n}]",)),
    )
