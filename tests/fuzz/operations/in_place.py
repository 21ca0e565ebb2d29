"""In-place operations: on what has just been made, and now and then on what others hold."""

from typing import Any

from tests.fuzz.operations.arithmetic import broadcastable
from tests.fuzz.operations.registry import Live, Out, operation


def _change(g: Any, t: str, h: Live) -> str:
    """A statement that changes t, which has the shape of h."""
    kind = g.whole(0, 12)
    n = g.number()
    if kind <= 1:
        return g.pick(f"{t}.mul_({n})", f"{t} *= {n}", f"{t}.div_({n})", f"{t} /= 2", f"{t}.neg_()")
    if kind == 2:
        return g.pick(f"{t}.add_({n})", f"{t} += {n}", f"{t} -= 1", f"{t}.sub_({n})")
    if kind == 3:
        p = g.parameter(*broadcastable(g, h))
        return g.pick(f"{t} += {p}", f"{t}.sub_({p})", f"{t}.add_({p}, alpha=2)", f"{t} -= {p}")
    if kind == 4:
        p = g.parameter(*broadcastable(g, h), near_one=True)
        return g.pick(f"{t} *= {p}", f"{t}.mul_({p})", f"{t}.div_({p})")
    if kind in (5, 6):
        o = g.like(h)
        return g.pick(
            f"{t} += {o}",
            f"{t}.sub_({o})",
            f"{t}.add_({o}, alpha={n})",
            f"{t}.add_(F.relu({o}))",
            f"{t}.lerp_({o}, 0.3)",
        )
    if kind in (7, 8):
        return g.pick(
            f"F.leaky_relu_({t}, 0.2)", f"F.relu_({t})", f"{t}.relu_()", f"F.leaky_relu({t}, 0.1, inplace=True)"
        )
    if kind == 9:
        return g.pick(
            f"{t}.abs_()",
            f"{t}.clamp_(-0.5, 0.7)",
            f"F.hardtanh_({t})",
            f"F.threshold_({t}, 0.1, -0.2)",
            f"{t}.clamp_(max=0.4)",
        )
    if kind == 10:
        return g.pick(
            f"{t}.masked_fill_({t} > 0.5, 0.5)", f"{t}.masked_fill_({h} < 0, 0.1)", f"F.dropout({t}, 0.3, inplace=True)"
        )
    if kind == 11:
        return g.pick(f"F.relu6({t}, inplace=True)", f"{t}.mul_({t}.detach() > 0)", f"{t}.clamp_(min=-0.3)")
    return g.pick(f"{t}.copy_({t} * 2)", f"{t}.mul_({t}.sign())", f"{t}.add_(1).mul_(2)")


def _fresh(g: Any, h: Live) -> str:
    p = g.parameter(1, near_one=True)
    return g.pick(
        f"{h} * 1.1", f"{h} + 0", f"{h} * {p}", f"{h}.clone()", f"{h} - 0.2", f"F.leaky_relu({h}, 0.3)", f"-{h}"
    )


@operation("any", weight=3)
def in_place(g: Any, h: Live) -> Out:
    t = g.name()
    changes = [_change(g, t, h) for _ in range(g.pick(1, 1, 2, 3))]
    return Out(t, (f"{t} = {_fresh(g, h)}", *changes))


@operation(weight=2.5)
def in_place_after_a_layer(g: Any, h: Live) -> Out:
    """On what a layer has just made, as activations in place are mostly used."""
    t = g.name()
    layer = f"nn.Linear({h.shape[-1]}, {h.shape[-1]})"
    if h.ndim in (3, 4):
        conv = f"nn.Conv{h.ndim - 2}d({h.channels}, {h.channels}, 3, padding=1, bias={g.chance(0.5)})"
        layer = g.pick(
            layer, conv, conv, conv.replace("3, padding=1", "1"), conv.replace("nn.Conv", "nn.ConvTranspose")
        )
    made = f"{g.module(layer)}({h})"
    if h.ndim == 4:
        made = g.pick(made, made, f"ops.upfirdn2d({h}, ops.setup_filter([1, 2, 1]), padding=1)")
    return Out(t, (f"{t} = {made}", _change(g, t, h)))


@operation("any", weight=1.5)
def in_place_after_a_view(g: Any, h: Live) -> Out:
    """A view of a tensor that changes afterwards, both of them used."""
    t, v = g.name(), g.name()
    view = g.pick(f"{t}[:]", f"{t}.view_as({t})", f"{t}.detach()", f"{t}.expand_as({t})")
    if h.plain:
        view = g.pick(view, f"{t}[:, ::2]", f"{t}.flatten(1)", f"{t}[:, :1]")
    return Out(f"{t}, {v}", (f"{t} = {_fresh(g, h)}", f"{v} = {view}", _change(g, t, h)), names=2)


@operation(weight=0.7, eligible=False)
def through_a_view(g: Any, h: Live) -> Out:
    """A view changes, and its base with it."""
    t = g.name()
    return Out(
        t,
        (
            f"{t} = {_fresh(g, h)}",
            g.pick(
                f"{t}[:, :1].mul_(3)",
                f"{t}[:, ::2] *= 0.5",
                f"{t}[:, 0] = 0.5",
                f"{t}[:].add_(1)",
                f"{t}.flatten(1).relu_()",
            ),
        ),
    )


@operation(weight=0.5, eligible=False)
def written_into_a_buffer(g: Any, h: Live) -> Out:
    t = g.name()
    return Out(
        f"{t} + {h}",
        (f"{t} = torch.zeros_like({h})", g.pick(f"{t}[:, :1] = {h}[:, :1]", f"{t}.copy_({h})", f"{t}.add_({h})")),
    )


@operation("any", weight=0.4)
def in_place_on_what_others_hold(g: Any, h: Live) -> Out | None:
    if h.name == "x":
        return None
    return Out(
        f"{h}.view_as({h})", (g.pick(f"{h}.add_(1)", f"{h}.mul_(1.5)", f"{h}.relu_()", f"{h}.sub_({g.parameter(1)})"),)
    )


@operation("any", weight=0.5)
def view_in_place(g: Any, h: Live) -> str | None:
    """A view made in place of its base."""
    if not h.plain:
        return None
    return g.pick(
        f"({h} * 2).unsqueeze_(1).flatten(1, 2)",
        f"({h} * 2)[:, None].squeeze_(1)",
        f"({h} * 2).transpose_(1, -1)",
        f"({h} * 2).flatten(1).t_().t()",
    )
