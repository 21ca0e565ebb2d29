"""Attention between the positions of a sample: PyTorch's, fastgan's and composed of products and a softmax."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation


@operation("positions", eligible=False, weight=2)
def attention(g: Any, h: Live) -> Out:
    """Queries, keys and values by three linear layers, for one head or two; keys and values of fewer positions."""
    width, of_values, heads = g.whole(1, 3), g.whole(1, 3), g.pick(0, 1, 2)
    positions = _positions(h)
    kept = g.pick(positions, positions, max(positions - 1, 1))
    tokens, fewer = f"{h}.flatten(2).mT", f"{h}.flatten(2)[..., :{kept}].mT"
    names = [g.name() for _ in range(3)]
    before = []
    for name, source, size in zip(names, (tokens, fewer, fewer), (width, width, of_values), strict=True):
        split = f".unflatten(-1, ({heads}, -1)).transpose(1, 2)" if heads else ""
        layer = g.module(f"nn.Linear({h.channels}, {max(heads, 1) * size}, bias={g.chance(0.5)})")
        before.append(f"{name} = {layer}({source}){split}")
    if g.chance(0.2) and width == of_values:
        before.append(f"{names[1]} = {names[2]}")
    mixed = _mixed(g, names, (positions, kept))
    joined = ".transpose(1, 2).flatten(2).mT" if heads else ".mT"
    return Out(f"{mixed}{joined}", tuple(before))


def _mixed(g: Any, names: list[str], sizes: tuple[int, int]) -> str:
    q, k, v = names
    rows, columns = sizes
    scores = g.parameter(*g.pick((rows, columns), (1, columns), (rows, 1)))
    allowed = g.buffer(f"(torch.rand({rows}, {columns}) > 0.3).index_fill(1, torch.tensor([0]), True)")
    scale = g.pick("", ", scale=0.7")
    kind = g.pick("dot", "l2")
    return g.pick(
        f"F.scaled_dot_product_attention({q}, {k}, {v}{scale})",
        f"F.scaled_dot_product_attention({q}, {k}, {v}, is_causal=True{scale})",
        f"F.scaled_dot_product_attention({q}, {k}, {v}, attn_mask={allowed}{scale})",
        f"F.scaled_dot_product_attention({q}, {k}, {v}, attn_mask={scores})",
        f"ops.attention({q}, {k}, {v}, kind={kind!r}{scale})",
        f"ops.attention({q}, {k}, {v}, kind={kind!r}, bias={scores})",
        f"({q} @ {k}.mT).softmax(-1) @ {v}",
        f"torch.softmax({q} @ {k}.mT + {scores}, -1) @ {v}",
    )


@operation("positions", eligible=False, weight=1)
def attention_module(g: Any, h: Live) -> str:
    heads = g.pick(1, h.channels)
    tokens = f"{h}.flatten(2).mT"
    if g.chance(0.5):
        norm_first, activation = g.chance(0.5), g.pick("relu", "gelu")
        settings = f"dim_feedforward=3, dropout=0.0, activation={activation!r}, norm_first={norm_first}"
        layer = g.module(f"nn.TransformerEncoderLayer({h.channels}, {heads}, batch_first=True, {settings})")
        return f"{layer}({tokens}).mT"
    layer = g.module(f"nn.MultiheadAttention({h.channels}, {heads}, batch_first=True, bias={g.chance(0.5)})")
    mask = g.buffer(f"torch.ones({_positions(h)}, {_positions(h)}, dtype=torch.bool).triu(1)")
    masked = g.pick("", "", f", attn_mask={mask}")
    return f"{layer}({tokens}, {tokens}, {tokens}, need_weights={g.chance(0.3)}{masked})[0].mT"


@operation("image", eligible=False, weight=0.5)
def self_attention(g: Any, h: Live) -> str:
    """Of fastgan.nn, which wants eight channels."""
    widened = f"{g.module(f'nn.Conv2d({h.channels}, 8, 1)')}({h})"
    block = g.module(f"fastgan.nn.SelfAttention2d(8, pooled={min(h.shape[2:]) > 1 and g.chance(0.5)})")
    g.declare(f"nn.init.constant_({block}.gamma, 0.7)")
    return f"{block}({widened}).mean(1, keepdim=True)"


def _positions(h: Live) -> int:
    number = 1
    for size in h.shape[2:]:
        number *= size
    return number
