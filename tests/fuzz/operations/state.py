"""State of a critic: buffers, attributes, counters, and branches on them."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation


def _of_a_sample(h: Live) -> str:
    return f"torch.zeros({', '.join(map(str, h.shape[1:]))})"


@operation(weight=1.5)
def running_mean(g: Any, h: Live) -> Out:
    """A statistic that forward updates and uses."""
    b = g.buffer(_of_a_sample(h))
    update = g.pick(
        f"{b}.mul_(0.5).add_({h}.mean(0), alpha=0.5)", f"{b}.lerp_({h}.mean(0), 0.3)", f"{b}.copy_(0.1 * {h}.sum(0))"
    )
    used = g.pick(
        f"{h} - {b}",
        f"{h} - {b}.clone()",
        f"{h} * ({b}.clone() + 1)",
        f"{h} / ({b}.abs() + 1)",
        f"torch.where({h} > {b}, {h}, {b}.clone())",
    )
    return Out(used, ("with torch.no_grad():", f"    {update}"))


@operation(weight=1)
def buffer_used_before_it_changes(g: Any, h: Live) -> Out:
    b = g.buffer(f"torch.rand({h.channels}) + 0.5")
    wide = f"{b}[(slice(None),) + (None,) * {h.ndim - 2}]"
    t = g.name()
    held = g.pick(f"{wide} if CHANGED else {wide}.clone()", f"{wide}.clone()", f"{wide}.clone()")
    change = g.pick(f"{b}.mul_(1.1)", f"{b}.add_(0.1)")
    p = g.parameter(1, near_one=True)
    return Out(
        t,
        (
            f"{t} = {g.pick(f'{h} * ({held})', f'{h} + ({held})', f'{h} * ({p} * ({held}))')}",
            "with torch.no_grad():",
            f"    {change}",
        ),
    )


@operation(weight=0.8)
def replaced_buffer(g: Any, h: Live) -> Out:
    """A new tensor under the buffer's name."""
    b = g.buffer(_of_a_sample(h))
    return Out(f"{h} - {b}", (f"{b} = 0.5 * {b} + 0.5 * {h}.detach().mean(0)",))


@operation("any", weight=0.8)
def counted_buffer(g: Any, h: Live) -> Out:
    n = g.buffer("torch.zeros((), dtype=torch.int64)")
    return Out(
        g.pick(
            f"{h} * (1 + 0.1 * float({n}))",
            f"({h} if int({n}) % 2 else {h} * 2)",
            f"{h} + 0.1 * {n}.clone()",
            f"(F.relu({h}) if int({n}) % 3 == 1 else {h})",
        ),
        (f"{n} += 1",),
    )


@operation(weight=1)
def branch_of_layers(g: Any, h: Live) -> Out:
    """One of two layers, by a counter or by the labels: spectral norms of the other must not move."""
    k = h.shape[-1]
    a = g.module(f"nn.Linear({k}, {k})")
    b = g.module(
        g.pick("{}", "norms.spectral_norm({})", "nn.utils.spectral_norm({})").format(f"nn.Linear({k}, {k}, bias=False)")
    )
    n = g.buffer("torch.zeros((), dtype=torch.int64)")
    by = g.pick(
        f"int({n}) % 2", f"int({n}) % 2", f"int({n}) < 2", "int(y.sum()) % 2" if g.labelled() else f"int({n}) % 3 == 1"
    )
    return Out(f"({a}({h}) if {by} else {b}({h}))", (f"{n} += 1",))


@operation("any", weight=0.4)
def counted_attribute(g: Any, h: Live) -> Out:
    """A number of Python's."""
    n = g.attribute("0")
    return Out(g.pick(f"{h} * (1 + 0.1 * {n})", f"({h} * 2 if {n} % 2 else {h} * 0.5)"), (f"{n} += 1",))


@operation(weight=0.6)
def attribute_that_moves(g: Any, h: Live) -> Out:
    """A tensor that is no buffer."""
    a = g.attribute("None")
    t = g.name()
    return Out(
        f"{h} - {t}",
        (
            f"{t} = {h}.detach().mean(0) if {a} is None else 0.5 * {a} + 0.5 * {h}.detach().mean(0)",
            f"{a} = {t}",
        ),
    )


@operation(weight=0.8)
def noise_in_a_buffer(g: Any, h: Live) -> Out:
    """A constant whose memory the next call writes again."""
    b = g.buffer(f"torch.randn(1, {', '.join(map(str, h.shape[1:]))})")
    return Out(g.pick(f"{h} + {b}", f"{h} - 0.5 * {b}", f"{h} + {b}[:, :1]"), (f"{b}.normal_()",))


@operation("any", weight=1)
def kept_on_itself(g: Any, h: Live) -> Out:
    """Attributes that forward sets, for others to look at."""
    a = g.attribute("None")
    return Out(f"{h} * 1", (f"{a} = {g.pick(f'{h}', f'{h}.detach()', f'{h} * 2', f'[{h}]')}",))


@operation(weight=0.8)
def penalty_term(g: Any, h: Live) -> Out:
    """A term that the loss may add: of a weight, or of an activation."""
    m = g.module(f"nn.Linear({h.shape[-1]}, {h.shape[-1]})")
    term = g.pick(f"({m}.weight**2).sum()", f"{m}.weight.abs().mean() + {m}.bias.square().sum()", f"{m}.weight.norm()")
    g.terms.append(term_name(g))
    return Out(f"{m}({h})", (f"self.{term_name(g)} = 0.1 * {term}",))


@operation(weight=0.5)
def activation_term(g: Any, h: Live) -> Out:
    """What a loss may want of the features of the last batch."""
    g.features.append(term_name(g))
    return Out(f"{h}[:]", (f"self.{term_name(g)} = 0.1 * {h}.square().mean()",))


def term_name(g: Any) -> str:
    return f"term{g.gene.id}"


@operation("any", weight=0.3)
def lazily_frozen(g: Any, h: Live) -> Out:
    """A parameter that forward freezes when it first runs."""
    p = g.parameter(1, near_one=True, trained=True)
    return Out(f"{h} * {p}", (f"{p}.requires_grad_(False)",))


@operation(weight=0.4)
def unused_layer(g: Any, h: Live) -> str:
    """Parts that forward does not touch."""
    g.declare(
        f"self.m{g.gene.id}z = {g.pick('', 'norms.spectral_norm', 'parametrizations.weight_norm')}(nn.Linear(3, 2))"
    )
    return f"{h}[:]"
