"""Sums, differences, products: with numbers, parameters of every broadcast shape, and other tensors of the critic."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, ones, operation


def broadcastable(g: Any, h: Live) -> tuple[int, ...]:
    """A shape that broadcasts against every sample of h alike."""
    shape = [1 if d == h.dim or g.chance(0.5) else n for d, n in enumerate(h.shape)]
    while shape and shape[0] == 1 and g.chance(0.7):
        shape.pop(0)
    return tuple(shape) if shape or g.chance(0.3) else (1,)


@operation("any", weight=3)
def number(g: Any, h: Live) -> str:
    n = g.number()
    return g.pick(
        f"{h} * {n}",
        f"{n} * {h}",
        f"{h} / {n}",
        f"{h} + {n}",
        f"{h} - {n}",
        f"{n} - {h}",
        f"-{h}",
        f"{h} - 1",
        f"torch.add({h}, 1, alpha={n})",
        f"torch.rsub({h}, 2, alpha={n})",
        f"torch.mul({h}, {n})",
        f"{h} * 2**-0.5",
        f"{h}.div({n})",
        f"{h}.neg()",
        f"{h} * torch.tensor({n})",
        f"{h} + torch.full((), {n})",
        f"+{h}",
    )


@operation("any", weight=3)
def bias(g: Any, h: Live) -> str:
    p = g.parameter(*broadcastable(g, h))
    return g.pick(
        f"{h} + {p}",
        f"{h} - {p}",
        f"{p} - {h}",
        f"{p} + {h}",
        f"torch.add({h}, {p}, alpha=-2)",
        f"torch.sub({p}, {h}, alpha=3)",
        f"{h} + {p}.exp()",
        f"{h} + 2 * {p}",
        f"{h} + {p} * {p}",
        f"{p}.expand_as({h}) + {h}",
    )


@operation("any", weight=2)
def gain(g: Any, h: Live) -> str:
    p = g.parameter(*broadcastable(g, h), near_one=True)
    return g.pick(
        f"{h} * {p}",
        f"{p} * {h}",
        f"{h} / {p}",
        f"{h} * {p}.exp()",
        f"{h} * ({p} * 0.5)",
        f"{h} * {p}.detach()",
        f"{h} * ({p} - 0.5 * {p}.mean())",
        f"{h} * {p} + {p}",
        f"{h} / ({p} + 1)",
        f"{h} * {p}.abs()",
    )


@operation("any")
def product_with_a_scalar_parameter(g: Any, h: Live) -> str:
    p = g.parameter(near_one=True)
    return g.pick(
        f"{h} * {p}", f"{h} / {p}", f"{h} + {p}", f"{p} - {h}", f"1 - {h} / {p}", f"torch.lerp({h}, -{h}, 0.3) * {p}"
    )


@operation("any", weight=4)
def combined(g: Any, h: Live) -> str:
    """With another tensor of the same shape: skips of every kind."""
    o = g.like(h)
    n = g.number()
    return g.pick(
        f"{h} + {o}",
        f"{h} - {o}",
        f"({h} + {o}) / 2**0.5",
        f"{h} + {n} * {o}",
        f"torch.add({h}, {o}, alpha={n})",
        f"torch.lerp({h}, {o}, 0.3)",
        f"{o} - {h} * 0.5",
        f"sum([{h}, {o}, {h}])",
        f"torch.stack([{h}, {o}]).sum(0)" if h.dim == 0 else f"{h} + {o}",
        f"torch.maximum({h}, {o})",
        f"torch.where({h} > 0, {h}, {o})",
        f"torch.minimum({h}, {o})",
        f"{h} + F.relu({o})",
        f"F.leaky_relu({h}, 0.2) + {o}",
        f"F.leaky_relu({h} + {o}, 0.2) - {h}",
        f"{h} + {o}.detach()",
        f"torch.sub({o}, {h}, alpha={n})",
        f"torch.where({o} > 0.1, {h}, 0.5 * {h} + {o})",
    )


@operation(weight=2)
def concatenated(g: Any, h: Live) -> str | None:
    """Along the channels, or another dimension."""
    o = g.other(lambda o: o.plain and o.ndim == h.ndim and o.shape[2:] == h.shape[2:])
    if o is None:
        return None
    options = [f"torch.cat([{h}, {o}], 1)", f"torch.cat([{o}, {h}, {h}], 1)", f"torch.cat([{h}, F.relu({o})], 1)"]
    if o.shape == h.shape:
        options += [
            f"torch.stack([{h}, {o}], 1).flatten(1, 2)",
            f"torch.stack([{h}, {o}, {h}], 1).amax(1)",
            f"torch.stack([{h}, {o}], -1).sum(-1)",
        ]
    if h.ndim > 2 and o.shape == h.shape:
        options.append(f"torch.cat([{h}, {o}], -1)")
    return g.pick(*options)


@operation(weight=2)
def broadcast(g: Any, h: Live) -> str | None:
    """A tensor with fewer dimensions or sizes of one beside h."""
    o = g.other(
        lambda o: (
            o.plain
            and o.ndim <= h.ndim
            and o.name != h.name
            and o.channels in (1, h.channels)
            and o.shape != h.shape
            and all(n in (1, m) for n, m in zip(o.shape[2:], h.shape[2:], strict=False))
        )
    )
    if o is None:
        return None
    wide = f"{o}" if o.ndim == h.ndim else f"{o}[(...,) + (None,) * {h.ndim - o.ndim}]"
    if o.ndim < h.ndim and any(n != 1 for n in o.shape[2:]):
        return None
    return g.pick(
        f"{h} + {wide}",
        f"{h} - 0.5 * {wide}",
        f"{wide} - {h}",
        f"torch.maximum({h}, {wide})",
        f"torch.cat([{h}, {wide}.expand_as({h})], 1)",
    )


@operation("positions")
def summary_beside_positions(g: Any, h: Live) -> str:
    dims = tuple(range(2, h.ndim))
    return g.pick(
        f"{h} - {h}.mean({dims}, keepdim=True)",
        f"torch.cat([{h}, {h}.mean({dims}, keepdim=True).expand_as({h})], 1)",
        f"{h}.sum(1, keepdim=True) * 0.5 + {h}",
        f"{h} + {h}.amax({dims}, keepdim=True)",
        f"{h}[:, :1] - {h}",
        f"{h} - {h}.flatten(2)[..., :1].view(len({h}), -1{ones(h.ndim - 2)})",
    )


@operation(weight=0.5)
def constant_channels(g: Any, h: Live) -> str:
    p = g.parameter(*h.shape[1:])
    return g.pick(
        f"torch.cat([{h}, {p}.expand_as({h})], 1)",
        f"torch.stack([{p}.expand_as({h}), {h}], 1).flatten(1, 2)",
        f"torch.cat([{p}.new_ones({h}.shape), {h}, 2 * {h}], 1)",
        f"{h} + {p}",
        f"torch.cat([{h}, torch.zeros_like({h})], 1)",
    )


@operation("any", weight=0.7)
def values_used_often(g: Any, h: Live) -> Out:
    """One tensor in several places."""
    o = g.like(h)
    t = g.name()
    return Out(
        g.pick(
            f"{t} + F.relu({t}) - 0.5 * {t}",
            f"{t} - {o} + {t}.abs()",
            f"torch.maximum({t}, -{t}) + {o}",
            f"F.leaky_relu({t}, 0.2) + {t}[:] + {o}",
            f"{t} + {t}",
            f"{t} - 0.5 * {o} + {t} * {g.parameter(1, near_one=True)}",
        ),
        (f"{t} = {h} * {g.number()}",),
    )


@operation(weight=3)
def shortcut(g: Any, h: Live) -> Out:
    """A residual block's two ways from what a layer has just made: an activation, and a view or a number times it."""
    t = g.name()
    n = h.shape[-1]
    made = g.pick(
        f"{g.module(f'nn.Linear({n}, {n})')}({h})",
        f"{h} * {g.parameter(1, near_one=True)}",
        f"F.leaky_relu({h}, 0.2)",
        f"{g.module(f'nn.Conv{h.ndim - 2}d({h.channels}, {h.channels}, 3, padding=1)')}({h})"
        if h.ndim in (3, 4)
        else f"{h} * 1.5",
    )
    view = g.pick(
        f"{t}[:, ::2]",
        f"{t}[:]",
        f"{t}.flatten(1)",
        f"{t}[..., ::2]",
        f"{t} * 2",
        f"{t} - 1",
        f"{t}.chunk(2, 1)[0]",
        f"{t}.mT" if h.ndim > 2 else f"{t}[:, 1:]",
    )
    act = g.pick(
        f"F.leaky_relu({t}, 0.2)",
        f"F.relu({t})",
        f"{t} * 0.5",
        f"ops.bias_act({t}, act='lrelu')",
        f"-{t}",
        f"F.leaky_relu_({t} + 0, 0.2)",
    )
    first, second = g.pick((view, act), (act, view), (view, act))
    v = g.name()
    return Out(f"{v}, {second}", (f"{t} = {made}", f"{v} = {first}"), names=2)


@operation("any", eligible=False, weight=0.7)
def product(g: Any, h: Live) -> str:
    """Of two tensors that depend on the input."""
    o = g.like(h)
    return g.pick(
        f"{h} * {o}",
        f"{h} * {o}.sigmoid()",
        f"{h}.square()",
        f"{h} / (1 + {o}.abs())",
        f"{h}**3 / 8",
        f"torch.addcmul({h}, {h}, {o})",
        f"{h} * {o}.amax()",
        f"{h} / ({o}.square().mean() + 1)",
    )


@operation(weight=1)
def large_constants(g: Any, h: Live) -> str:
    """Infinite or very large ones, where something else is chosen."""
    large = g.pick("float('inf')", "1e30", "1e9")
    mask = f"(torch.arange({h.channels}) % 2 == 1)[(slice(None),) + (None,) * {h.ndim - 2}]"
    o = g.like(h)
    return g.pick(
        f"F.relu({h}.masked_fill({mask}, -{large}))",
        f"F.relu({h} + torch.where({mask}, -{large}, 0.0))",
        f"torch.maximum({h}, {o}.masked_fill({mask}, -{large}))",
        f"torch.minimum({h}, torch.where({mask}, {large}, 0.0))",
        f"{h}.masked_fill({mask}, {large}).clamp(-0.4, 0.5)",
        f"torch.stack([{h}, {o}.masked_fill({mask}, -{large})], -1).amax(-1)",
        f"{h} + F.pad({o}, (1, 1), value=-{large}).amax(-1, keepdim=True)",
        f"torch.where({mask}, {h}, F.leaky_relu({o}.masked_fill({mask}, -{large}), 0.2))",
    )


@operation("any", eligible=False, weight=0.3)
def complex_weights(g: Any, h: Live) -> str:
    """Of which only the real part goes on."""
    shape = broadcastable(g, h)
    v, w = (f"torch.complex({g.parameter(*shape)}, {g.parameter(*shape, near_one=True)})" for _ in range(2))
    return g.pick(
        f"({h} * {v} * {w}).to({h}.dtype)",
        f"(({h} + {v}) / {w}).to({h}.dtype)",
        f"({v} * {h} - {h}).to({h}.dtype)",
    )
