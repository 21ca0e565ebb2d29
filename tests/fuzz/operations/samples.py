"""Operations that move the samples' dimension: to 1, to the last, folded with channels or positions, and back."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, ones, operation


@operation(weight=1.5)
def moved(g: Any, h: Live) -> Out:
    last = h.ndim - 1
    return g.pick(
        Out(f"{h}.transpose(0, 1)", dim=1),
        Out(f"{h}.movedim(0, -1)", dim=last),
        Out(f"{h}.movedim(0, 1)", dim=1),
        Out(f"{h}.transpose(0, -1)", dim=last),
        Out(f"{h}.permute({', '.join(map(str, [*range(1, h.ndim), 0]))})", dim=last),
        Out(f"{h}[None]", dim=1) if h.ndim < 4 else Out(f"{h}.transpose(0, 1).contiguous()", dim=1),
        Out(f"{h}.transpose(0, 1).clone()", dim=1),
    )


@operation("moved", weight=5)
def moved_back(g: Any, h: Live) -> Out:
    last = h.dim == h.ndim - 1
    return g.pick(
        Out(f"{h}.movedim({h.dim}, 0)", dim=0),
        Out(f"{h}.transpose(0, {h.dim})", dim=0),
        Out(f"{h}.moveaxis({-1 if last else h.dim}, 0).contiguous()", dim=0),
    )


@operation("moved", weight=2)
def used_there(g: Any, h: Live) -> Out | str | None:
    """What works wherever the samples are."""
    options: list[Any] = [
        f"torch.cat([{h}, {h} * 0.5], 0)",
        f"{h}.abs() + {h}[:]",
        f"torch.stack([{h}, -{h}]).sum(0)",
        f"{h}.flip(0)",
        f"{h}.roll(1, 0)",
        f"{h}[::2]",
        f"{h}[:1]",
        f"{h} - {h}.mean(0, keepdim=True)",
        f"{h}[[0, -1]]",
        f"{h}.cumsum(0)",
        f"{h}.amax(0, keepdim=True) + {h}",
    ]
    if h.dim == 1 and h.ndim >= 3:
        options += [
            f"{g.module(f'nn.Linear({h.shape[-1]}, {g.whole(1, 3)})')}({h})",
            f"{h}.mean(-1, keepdim=True)",
            f"{h}.flatten(2)",
            Out(f"{h}.sum(0)", dim=0),
            Out(f"{h}[0]", dim=0),
            Out(f"{h}.mean(0)", dim=0),
            Out(f"{h}.unbind(0)[-1]", dim=0),
        ]
    if h.dim == h.ndim - 1 and h.ndim >= 2:
        w = g.parameter(g.whole(1, 3), h.shape[-2])
        options += [f"{w} @ {h}", f"{w}.matmul({h})", f"torch.einsum('ki,...ib->...kb', {w}, {h})"]
    return g.pick(*options)


@operation("moved", weight=2)
def pooled_there(g: Any, h: Live) -> str | None:
    """Pooling and padding behind the samples' dimension."""
    if h.ndim != 4 or h.dim != 1 or min(h.shape[2:]) < 2:
        return None
    return g.pick(
        f"F.avg_pool2d({h}, 2)",
        f"F.max_pool2d({h}, 2)",
        f"F.interpolate({h}, scale_factor=0.5, mode='bilinear')",
        f"F.pad({h}, (1, 0, 0, 1))",
        f"{h}.mean((2, 3), keepdim=True)",
    )


@operation("image", weight=2)
def constant_of_samples_and_pool(g: Any, h: Live) -> Out | None:
    """One number for each sample, which lie where channels would be: a pool must not take it for a bias."""
    if min(h.shape[2:]) < 2:
        return None
    t = g.name()
    number = f"{g.module('nn.Embedding(4, 1)')}(y)" if g.labelled() else f"{h}.detach().mean((1, 2, 3))"
    combined = g.pick(f"{h}.transpose(0, 1) + {t}", f"{t} + {h}.transpose(0, 1) * 2", f"{h}.transpose(0, 1) - {t}")
    after = g.pick(f"F.avg_pool2d({combined}, 2)", f"F.leaky_relu({combined}, 0.2)", f"F.max_pool2d({combined}, 2)")
    return Out(f"{after}.transpose(0, 1)", (f"{t} = {number}.view(1, -1, 1, 1)",))


@operation(weight=1.2)
def folded(g: Any, h: Live) -> Out | None:
    """Channels or positions are folded into the batch."""
    if h.ndim == 2:
        return Out(f"{h}.reshape(-1, 1)", folded=h.channels)
    return g.pick(
        Out(f"{h}.flatten(0, 1)", folded=h.channels),
        Out(f"{h}.reshape(-1, 1, *{h}.shape[2:])", folded=h.channels),
        Out(f"{h}.flatten(2).transpose(1, 2).flatten(0, 1)", folded=_numel(h.shape[2:])),
        Out(f"{h}.reshape(-1, {h}.shape[-1])", folded=_numel(h.shape[1:-1])),
    )


@operation("folded", weight=2)
def used_folded(g: Any, h: Live) -> str | None:
    options = [
        f"F.leaky_relu({h}, 0.2) + {g.parameter(1)}",
        f"{h} * {g.parameter(1, near_one=True)}",
        f"{h}.abs() - {h}[:]",
    ]
    if h.ndim == 2:
        options += [f"{g.module(f'nn.Linear({h.shape[-1]}, {g.whole(1, 3)})')}({h})", f"F.prelu({h}, {g.parameter(1)})"]
    if h.ndim == 4:
        options += [
            f"{g.module(f'nn.Conv2d({h.channels}, {g.whole(1, 2)}, {min(2, *h.shape[2:])})')}({h})",
            f"F.avg_pool2d({h}, 2)",
        ]
    if h.ndim == 3:
        options += [f"{g.module(f'nn.Conv1d({h.channels}, {g.whole(1, 2)}, 1)')}({h})", f"{h}.mean(-1, keepdim=True)"]
    return g.pick(*options)


@operation("folded", weight=5)
def unfolded_back(g: Any, h: Live) -> Out:
    return g.pick(
        Out(f"{h}.unflatten(0, (-1, {h.folded}))", folded=1),
        Out(f"{h}.reshape(len(x), -1)", folded=1),
        Out(f"{h}.view(len(x), {h.folded}, *{h}.shape[1:])", folded=1),
        Out(
            f"{h}.reshape(len(x), -1{ones(h.ndim - 1)})"
            if _numel(h.shape[1:]) == 1
            else f"{h}.reshape(len(x), -1, *{h}.shape[1:])",
            folded=1,
        ),
    )


@operation("any", eligible=False, weight=0.5)
def flat_and_back(g: Any, h: Live) -> str | None:
    if h.dim != 0:
        return None
    return g.pick(
        f"{h}.flatten().abs().view({h}.shape)",
        f"{h}.reshape(-1).relu().view_as({h})",
        f"({h}.flatten() * 2).reshape({h}.shape)",
    )


def _numel(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n
