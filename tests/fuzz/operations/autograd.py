"""Checkpoints, gradients inside of forward, functions with a backward of their own."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation


def _block(g: Any, h: Live, t: str) -> str:
    """A function of t, with weights."""
    n = h.shape[-1]
    if h.dim == h.ndim - 1 or h.ndim < 2:
        return f"F.leaky_relu({t} * {g.parameter(1, near_one=True)}, 0.2)"
    m = g.module(
        g.pick("{}", "{}", "parametrizations.weight_norm({})", "parametrizations.spectral_norm({}).eval()").format(
            f"nn.Linear({n}, {n})"
        )
    )
    return g.pick(
        f"F.leaky_relu({m}({t}), 0.2)",
        f"{t} + {m}(F.relu({t}))",
        f"{m}({t}).abs()",
        f"F.dropout({m}({t}), 0.3)",
        f"{m}({t})[:] * 2",
    )


@operation("any", weight=1)
def checkpointed(g: Any, h: Live) -> str:
    return f"checkpoint(lambda t: {_block(g, h, 't')}, {h}, use_reentrant=False)"


@operation("any", weight=0.1, eligible=False)
def checkpointed_reentrant(g: Any, h: Live) -> str:
    return f"checkpoint(lambda t: {_block(g, h, 't')}, {h}, use_reentrant=True)"


@operation("any", weight=0.5)
def gradient_of_a_detached_part(g: Any, h: Live) -> Out:
    """The critic differentiates something else than its input."""
    z, d = g.name(), g.name()
    return Out(
        g.pick(f"{h} * {d}", f"{h} + {d}", f"{h} - {d}.detach()"),
        (
            f"{z} = {h}.detach().requires_grad_()",
            f"({d},) = torch.autograd.grad(F.softplus({_block(g, h, z)}).sum(), {z}, create_graph=True)",
        ),
    )


@operation("any", eligible=False, weight=0.4)
def gradient_of_itself(g: Any, h: Live) -> Out | None:
    """The critic differentiates what it has computed so far, with respect to its input."""
    t, d = g.name(), g.name()
    if h.name == "x":
        return None
    return Out(
        g.pick(f"{h} + 0.1 * {d}.mean()", f"{h} * 1 + {d}.abs().mean()"),
        (
            f"{t} = {h} * 1",
            f"{d} = {h} * 0",
            "if x.requires_grad:",
            f"    {d} = torch.autograd.grad({t}.sum(), x, create_graph=True)[0]",
        ),
    )


@operation("any", eligible=False, weight=1.2)
def own_backward(g: Any, h: Live) -> str:
    p = g.parameter(1, near_one=True)
    return g.pick(
        f"Reversal.apply({h})",
        f"Reversal.apply({h}) + {h}",
        f"ReversalInPlace.apply({h} * 1)",
        f"{h} + StraightThrough.apply({h})",
        f"{h} + Rounding.apply({h})",
        f"Scaled.apply({h}, {p})",
        f"{h} * ({p} * StraightThrough.apply({h}))",
        f"F.relu(Reversal.apply({h}))",
        f"ops.bias_act(Reversal.apply({h}), None, act='lrelu')" if h.ndim >= 2 else f"Reversal.apply({h})",
    )


@operation("any", weight=0.5)
def own_backward_of_weights(g: Any, h: Live) -> str:
    """A custom function that the input does not go through."""
    p = g.parameter(1, near_one=True)
    return g.pick(
        f"{h} * Reversal.apply({p})",
        f"{h} + StraightThrough.apply({p})",
        f"{h} * Scaled.apply({p}, {p})",
        f"{h} * Reversal.apply({p} * 2)",
    )


@operation("any", weight=0.4)
def inference_mode(g: Any, h: Live) -> Out:
    t = g.name()
    return Out(
        g.pick(f"{h} * 1 + {t}.clone()", f"{h} + {t}"),
        ("with torch.inference_mode():", f"    {t} = {h}.abs().mean() * 0.1"),
    )


@operation(weight=0.4, eligible=False)
def functional_gradient(g: Any, h: Live) -> Out:
    d = g.name()
    m = g.module(f"nn.Linear({h.shape[-1]}, 1)")
    return Out(
        g.pick(f"{h} + {d}.detach()", f"{h} + {d}"),
        (f"{d} = torch.func.grad(lambda v: F.softplus({m}(v)).sum())({h}.detach())",),
    )


@operation("any", weight=0.6)
def saved_by_hooks(g: Any, h: Live) -> Out:
    """Somebody else packs what autograd saves."""
    t = g.name()
    return Out(
        t,
        (
            "with torch.autograd.graph.saved_tensors_hooks(lambda v: v.clone(), lambda v: v):",
            f"    {t} = {_block(g, h, str(h))}",
        ),
    )
