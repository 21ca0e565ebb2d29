"""Views, slices and copies: operations that share memory, and some that only seem to."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation, sizes


@operation(weight=3)
def strided_slice(g: Any, h: Live) -> str:
    options = [f"{h}[:, ::2]", f"{h}[:, 1::2]", f"{h}[:, :1]", f"{h}[:, 1:]", f"{h}[:, -1:]"]
    if h.ndim >= 3:
        options += [f"{h}[..., ::2]", f"{h}[..., 1:]", f"{h}[:, :, ::2]", f"{h}[:, :, :1]"]
    if h.ndim == 4:
        options += [f"{h}[:, :, ::2, ::2]", f"{h}[:, :, 1::2, 1::2]", f"{h}[:, :, 1:-1, 1:-1]"]
    return g.pick(*options)


@operation("any", weight=2)
def whole(g: Any, h: Live) -> str:
    """Views of everything."""
    return g.pick(
        f"{h}[:]",
        f"{h}[...]",
        f"{h}.view_as({h})",
        f"{h}.expand_as({h})",
        f"{h}.reshape({h}.shape)",
        f"{h}.view({h}.shape)" if h.dim == 0 else f"{h}[:]",
        f"{h}.contiguous()",
        f"{h}.clone()",
        f"{h}.to({h}.dtype)",
        f"{h}[None].squeeze(0)" if h.dim == 0 else f"{h}[...]",
        f"{h} + 0",
        f"{h}.expand(*{h}.shape)",
        f"torch.alias_copy({h})",
        f"{h}.requires_grad_()" if not h.constant else f"{h}[:]",
    )


@operation(weight=2)
def flattened(g: Any, h: Live) -> str:
    options = [f"{h}.flatten(1)", f"{h}.reshape({h}.shape[0], -1)", f"{h}.reshape(len({h}), -1)"]
    if h.ndim >= 3:
        options += [f"{h}.flatten(2)", f"{h}.flatten(1, 2)"]
    return g.pick(*options)


@operation(weight=0.7)
def unflattened(g: Any, h: Live) -> str | None:
    factors = [n for n in (2, 3, 4) if h.channels % n == 0]
    if not factors:
        return g.pick(f"{h}[:, None]", f"{h}.unsqueeze(-1)", f"{h}.unsqueeze(1)")
    n = g.pick(*factors)
    return g.pick(
        f"{h}.unflatten(1, (-1, {n}))", f"{h}.unflatten(1, ({n}, -1))", f"{h}.view(len({h}), {n}, -1)", f"{h}[:, None]"
    )


@operation(weight=0.5)
def squeezed(g: Any, h: Live) -> str | None:
    dims = [d for d in range(1, h.ndim) if h.shape[d] == 1]
    if not dims or h.ndim < 3:
        return None
    d = g.pick(*dims)
    return g.pick(f"{h}.squeeze({d})", f"{h}.select({d}, 0)", f"{h}.sum({d})")


@operation(weight=2)
def parts(g: Any, h: Live) -> Out | None:
    """Several views of one tensor."""
    dim = g.pick(*range(1, h.ndim), 1)
    size = h.shape[dim]
    if size < 2:
        return None
    if h.ndim >= 3 and size <= 4 and g.chance(0.3):
        return Out(f"{h}.unbind({dim})", names=size)
    first = g.whole(1, size - 1)
    options = [(f"{h}.split([{first}, {size - first}], {dim})", 2), (f"{h}.tensor_split(2, {dim})", 2)]
    if size % 2 == 0:
        options.append((f"{h}.chunk(2, {dim})", 2))
    if size <= 4:
        options.append((f"{h}.split(1, {dim})", size))
    code, names = g.pick(*options)
    return Out(code, names=names)


@operation(weight=1.5)
def selected(g: Any, h: Live) -> str:
    dim = g.pick(*range(1, h.ndim))
    i = g.whole(0, h.shape[dim] - 1)
    options = [f"{h}.narrow({dim}, {i}, 1)", f"torch.narrow({h}, {dim}, 0, {i + 1})"]
    if h.ndim >= 3:
        options += [f"{h}.select({dim}, {i})", f"{h}[..., {g.whole(0, h.shape[-1] - 1)}]", f"{h}.unbind({dim})[{i}]"]
    return g.pick(*options)


@operation()
def transposed(g: Any, h: Live) -> str | None:
    """The samples stay where they are."""
    if h.ndim == 2:
        return None
    options = [f"{h}.transpose(1, 2)", f"{h}.transpose(1, -1)", f"{h}.mT", f"{h}.swapaxes(1, -1).contiguous()"]
    if h.ndim == 4:
        options += [
            f"{h}.permute(0, 2, 3, 1)",
            f"{h}.permute(0, 3, 1, 2)",
            f"{h}.contiguous(memory_format=torch.channels_last)",
        ]
    return g.pick(*options)


@operation()
def expanded(g: Any, h: Live) -> str:
    options = [
        f"{h}.unsqueeze(1).expand(-1, 2, *{h}.shape[1:]).flatten(1, 2)",
        f"{h}[:, :1].expand_as({h})",
        f"{h}[:, :1].expand(-1, 3, *{h}.shape[2:])",
        f"{h}[:, -1:].expand_as({h}) - {h}",
    ]
    if h.ndim == 2:
        options += [f"{h}[:, :, None].expand(-1, -1, 2)", f"{h}[:, :, None, None].expand(-1, -1, 2, 2)"]
    if h.ndim == 2 and h.channels == 1:
        options.append(f"{h}.expand(-1, 4)")
    return g.pick(*options)


@operation()
def picked(g: Any, h: Live) -> Out | str:
    """By indices: copies, not views."""
    last = h.channels - 1
    order = list(range(h.channels))
    g.rng.shuffle(order)
    options: list[str] = [
        f"{h}[:, {order}]",
        f"{h}[:, [0, {last}, 0]]",
        f"{h}.index_select(1, torch.tensor({order}))",
        f"{h}.flip(1)",
        f"{h}.roll(1, 1)",
        f"{h}.cumsum(1)",
        f"{h}.repeat_interleave(2, 1)",
        f"torch.cat([{h}[:, {last}:], {h}[:, :{last}]], 1)" if last else f"{h}.flip(1)",
        f"torch.stack({h}.unbind(1)[::-1], 1)",
        f"torch.diff({h}, dim=1)" if last else f"{h}.roll(1, 1)",
    ]
    if h.ndim >= 3:
        options += [
            f"{h}.flip((1, -1))",
            f"{h}[:, :, [0, -1]]",
            f"{h}[..., 1:] - {h}[..., :-1]",
            f"{h}.roll((1, 2), (1, -1))",
        ]
        options += [f"{h}[:, [0, {last}], [0, -1]]", f"torch.take_along_dim({h}, {h}.argmax(-1, keepdim=True), -1)"]
    return g.pick(*options)


@operation("any", weight=0.7)
def taken_twice(g: Any, h: Live) -> Out:
    """A view of a view, both of them alive."""
    first = g.name()
    if not h.plain:
        return Out(f"{first}.neg() + {first}[:]", (f"{first} = {h}[:]",))
    inner = g.pick(f"{h}[:, ::2]", f"{h}.flatten(1)", f"{h}[:]", f"{h}.transpose(1, -1)" if h.ndim > 2 else f"{h}[:]")
    outer = g.pick(f"{first}[:, :1]", f"{first}.flatten(1)", f"{first}[:]", f"{first}[:, -1:].expand_as({first})")
    return Out(f"{outer}, {first}", (f"{first} = {inner}",), names=2)


@operation("any", eligible=False, weight=0.2)
def unusual_view(g: Any, h: Live) -> str | None:
    if not h.plain:
        return None
    return g.pick(
        f"{h}.as_strided({h}.shape, {h}.stride())",
        f"{h}.sort(1).values",
        f"{h}.flip(0).gather(0, {h}.argmax(0, keepdim=True))",
    )


@operation("any", weight=1)
def by_position(g: Any, h: Live) -> str | None:
    """Elements of each sample by their positions, which may be its label."""
    if not h.plain:
        return None
    ones = ", 1" * (h.ndim - 2)
    choices = [
        f"{h}.unfold(1, 1, 1).sum(-1)",
        f"{h}.repeat(1, 2{ones})",
        f"{h}.gather(1, {h}.argmax(1, keepdim=True))",
        f"torch.view_copy({h}, [{sizes((-1, *h.shape[1:]))}])",
        f"{h}[torch.arange(len({h})), {h}.detach().flatten(1).argmax(1) % {h.channels}].unsqueeze(1)",
    ]
    if g.labelled():
        label = f"(y % {h.channels})"
        choices += [
            f"{h}[torch.arange(len({h})), {label}].unsqueeze(1)",
            f"{h}[torch.arange(len({h}))[:, None], torch.stack([{label}, 0 * y], 1)]",
            f"torch.take_along_dim({h}, {label}.view(-1, 1{ones}), 1)",
        ]
    if h.ndim > 2:
        last = h.ndim - 1
        choices += [
            f"{h}.tril()",
            f"{h}.triu(1)",
            f"{h}.rot90(2, (1, {last}))",
            f"{h}.diagonal(0, 1, {last}).flatten(1)",
        ]
    return g.pick(*choices)
