"""Heads: operations that reduce a tensor to one number for each sample, [samples, 1]."""

from typing import Any

from tests.fuzz.operations.registry import HEADS, Live, operation

OUTPUTS: dict[str, str] = {
    "as it is": "{}",
    "a vector": "({}).squeeze(1)",
    "by view": "({}).view(-1)",
    "scaled": "({}) * 0.5 + 0.1",
    "rectified": "F.leaky_relu({}, 0.5)",
    "smooth": "torch.tanh({})",
    "two numbers": "torch.cat([{0}, 2 * ({0})], 1)",
    "four dimensions": "({})[:, :, None, None]",
}
NOT_ELIGIBLE = ("smooth",)


@operation(into=HEADS, weight=4)
def linear_head(g: Any, h: Live) -> str:
    n = 1
    for size in h.shape[1:]:
        n *= size
    code = f"nn.Linear({n}, 1, bias={g.chance(0.7)})"
    code = g.pick(
        "{}",
        "{}",
        "{}",
        "{}",
        "norms.spectral_norm({})",
        "parametrizations.weight_norm({})",
        "nn.utils.spectral_norm({})",
    ).format(code)
    flat = g.pick(f"{h}.flatten(1)", f"{h}.reshape(len({h}), -1)", f"F.leaky_relu({h}, 0.2).flatten(1)")
    return f"{g.module(code)}({flat})"


@operation(into=HEADS)
def mean_head(g: Any, h: Live) -> str:
    return g.pick(
        f"{h}.flatten(1).mean(1, keepdim=True)",
        f"{h}.flatten(1).sum(1)[:, None]",
        f"{h}.flatten(1).amax(1, keepdim=True)",
        f"{h}.reshape(len({h}), -1).sum(1, True) * {g.parameter(1, near_one=True)}",
        f"F.relu({h}).flatten(1).sum(-1).unsqueeze(1)",
        f"{h}.flatten(1)[:, :1]",
        f"torch.stack([v.sum() for v in {h}])[:, None]" if g.chance(0.1) else f"{h}.flatten(1)[:, -1:]",
    )


@operation(into=HEADS)
def product_head(g: Any, h: Live) -> str:
    n = 1
    for size in h.shape[1:]:
        n *= size
    w, b = g.parameter(n), g.parameter(1)
    return g.pick(
        f"({h}.flatten(1) @ {w})[:, None]",
        f"({h}.flatten(1) * {w}).sum(1, keepdim=True) + {b}",
        f"F.linear({h}.flatten(1), {w}[None], {b})",
        f"torch.einsum('bi,i->b', {h}.flatten(1), {w}).unsqueeze(-1)",
        f"torch.addmv({b}, {h}.flatten(1), {w}).view(-1, 1)"
        if g.chance(0.2)
        else f"torch.mv({h}.flatten(1), {w}).view(-1, 1) - {b}",
    )


@operation(into=HEADS, weight=1.5)
def projection_head(g: Any, h: Live) -> str | None:
    if not g.labelled():
        return None
    e = g.module(f"nn.Embedding(4, {h.channels})")
    pooled = f"{h}.flatten(2).sum(2)" if h.ndim > 2 else f"{h}"
    return g.pick(
        f"({pooled} * {e}(y)).sum(1, keepdim=True)",
        f"torch.einsum('bc,bc->b', {pooled}, {e}(y))[:, None]",
        f"torch.bmm({pooled}[:, None], {e}(y)[:, :, None]).flatten(1)",
        f"({pooled} * {e}(y)).sum(1, True) + {g.module('nn.Embedding(4, 1)')}(y)",
    )


@operation("image", into=HEADS)
def convolution_head(g: Any, h: Live) -> str | None:
    if h.shape[2] != h.shape[3]:
        return None
    return f"{g.module(f'nn.Conv2d({h.channels}, 1, {h.shape[2]})')}({h}).flatten(1)"
