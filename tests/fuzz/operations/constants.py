"""Constants of each sample: labels, numbers beside the batch, gates of detached activations."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation


def of_samples(g: Any, size: int) -> str | None:
    """[samples, size], with a gradient to an embedding or a layer."""
    kinds = [None, "{}(y)", "{}.weight[y]"]
    if not g.labelled():
        return None
    if g.program.labels == "classes and numbers" and g.chance(0.4):
        return f"{g.module(f'nn.Linear(3, {size})')}(c)"
    return g.pick(*kinds[1:]).format(g.module(f"nn.Embedding(4, {size})"))


@operation("any", weight=3)
def label(g: Any, h: Live) -> str | None:
    """Wherever the samples lie."""
    channel = 1 if h.dim == 0 else 0
    if h.ndim <= channel or h.folded > 1:
        return None
    e = of_samples(g, g.pick(1, h.shape[channel]))
    if e is None:
        return None
    wide = f"{e}" if h.dim < channel else f"{e}.t()"
    if h.dim > 1:
        wide += f".view(-1{', 1' * (h.dim - 1)}, {h.shape[h.dim]})"
    behind = h.ndim - 1 - max(h.dim, 1)
    wide += f"[(...,) + (None,) * {behind}]" if behind else ""
    return g.pick(
        f"{h} * {wide}",
        f"{h} + {wide}",
        f"{wide} - {h}",
        f"torch.maximum({h}, {wide})",
        f"torch.where({h} > 0, {h}, {wide})",
        f"{h} + {wide}.expand_as({h})",
        f"{h} / ({wide}.abs() + 1)",
        f"{h}.clone().add_({wide})",
    )


@operation(weight=1.2)
def label_as_channels(g: Any, h: Live) -> str | None:
    e = of_samples(g, h.channels)
    if e is None:
        return None
    wide = f"{e}[(...,) + (None,) * {h.ndim - 2}].expand_as({h})"
    return g.pick(
        f"torch.cat([{h}, {wide}], 1)", f"torch.stack([{wide}, {h}], 1).sum(1)", f"torch.cat([{wide}[:, :1], {h}], 1)"
    )


@operation(weight=1)
def mask_of_the_label(g: Any, h: Live) -> str | None:
    if not g.labelled():
        return None
    wide = f"(y > 1)[(...,) + (None,) * {h.ndim - 1}]"
    return g.pick(
        f"torch.where({wide}, {h}, 0.5 * {h})",
        f"{h} * {wide}",
        f"{h} * F.one_hot(y, 4)[:, :1][(...,) + (None,) * {h.ndim - 2}]",
        f"{h}.masked_fill({wide}, 0.3)",
        f"{h} + {wide} * {g.parameter(h.channels)}[(slice(None),) + (None,) * {h.ndim - 2}]",
    )


@operation(weight=0.8)
def numbers_beside(g: Any, h: Live) -> str | None:
    if g.program.labels != "classes and numbers":
        return None
    wide = f"c[:, :1][(...,) + (None,) * {h.ndim - 2}]"
    p = g.parameter(1, near_one=True)
    return g.pick(
        f"{h} * {wide}",
        f"{h} + {wide}",
        f"{h} * ({wide} * {p})",
        f"{h} - {p} * {wide}",
        f"torch.cat([{h}, {wide}.expand_as({h})], 1)",
    )


@operation("any", weight=1.5)
def gate(g: Any, h: Live) -> Out | str:
    """Activations as constants."""
    o = g.like(h)
    t = g.name()
    return g.pick(
        f"{h} * {o}.detach().sigmoid()",
        f"{h} * ({o} > {o}.mean())",
        f"torch.where({o} > {o}.detach().mean(), {h}, 0.1 * {h})",
        f"{h} * {o}.sign() + {o}.sign()",
        f"{h} * float({o}.detach().abs().mean())",
        f"{o}.round() + {h}",
        f"{h} + {o}.detach()",
        f"{h} * ({o}.detach() / ({o}.detach().abs().amax() + 1))",
        f"{h} - {o}.detach().mean()",
        Out(f"{h} * {t}", ("with torch.no_grad():", f"    {t} = {o}.tanh() + {o}.softmax(0)")),
        Out(f"{h} + {t}", ("with torch.no_grad():", f"    {t} = F.relu({o} * 2)")),
        f"{h} * torch.ones_like({o}) + torch.full_like({o}, 0.1)",
    )


@operation("any", eligible=False, weight=0.4)
def past_autograd(g: Any, h: Live) -> Out | str:
    o = g.like(h)
    t = g.name()
    return g.pick(
        f"{h} + {o}.data.tanh()",
        Out(t, (f"{t} = {h} * 1.5", f"{t}.data.mul_(2)")),
        f"{h} * {o}.data",
        f"{h} + torch.from_numpy({o}.detach().numpy().copy())",
    )


@operation(weight=1)
def gate_with_weights(g: Any, h: Live) -> str:
    """Weights multiply a detached activation, whose memory autograd needs for their gradient."""
    o = g.like(h)
    p = g.parameter(h.channels, near_one=True)
    wide = f"{p}[(slice(None),) + (None,) * {h.ndim - 2}]"
    m = g.module(f"nn.Linear({h.shape[-1]}, {h.shape[-1]})")
    return g.pick(
        f"{h} * ({wide} * {o}.detach())",
        f"{h} + {m}({o}.detach())",
        f"{h} * {m}({o}.detach()).sigmoid()",
        f"{h} - {wide} * {o}.detach().abs()",
    )
