"""Layers with weights."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation

NORMS = (
    "parametrizations.weight_norm({})",
    "parametrizations.spectral_norm({})",
    "norms.spectral_norm({})",
    "nn.utils.spectral_norm({})",
    "parametrizations.spectral_norm({}).eval()",
    "nn.utils.weight_norm({})",
)


def batch_norm_is_right(h: Live) -> bool:
    """On the CPU PyTorch 2.13 reads gradients in the wrong order where one side of a map is 1, or of one sample.

    (A gradient of shape [2, 4, 1, 5] and strides [20, 1, 4, 4]; one of [1, 8, 4, 4] for samples of strides
    [8, 1, 32, 8].) The textbook is wrong there.
    """
    sides = h.shape[2:]
    return len(sides) == 0 or max(sides) == 1 or 1 not in (h.shape[0], *sides)


def layer(g: Any, code: str) -> str:
    """A module, sometimes with a normalised weight."""
    return g.module(g.pick(*NORMS).format(code) if g.chance(0.25) else code)


@operation("positions", weight=5)
def convolution(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2:
        return None
    channels = h.channels
    groups = g.pick(*[k for k in (1, 1, 1, 2, 3, channels) if channels % k == 0])
    padding, dilation = g.whole(0, 2), g.pick(1, 1, 2)
    room = (min(h.shape[2:]) + 2 * padding - 1) // dilation + 1
    kernel = g.whole(1, min(3, max(room, 1)))
    mode = g.pick("zeros", "zeros", "zeros", "reflect", "circular")
    if mode != "zeros":
        padding = min(padding, min(h.shape[2:]) - 1)
    out = groups * g.whole(1, 3)
    rest = f", padding={padding}, dilation={dilation}, groups={groups}, bias={g.chance(0.7)}, padding_mode='{mode}'"
    return f"{layer(g, f'nn.Conv{n}d({channels}, {out}, {kernel}, {g.pick(1, 1, 2)}{rest})')}({h})"


@operation("positions", weight=2)
def same_convolution(g: Any, h: Live) -> str | None:
    """1x1 or 3x3, the size kept: what residual blocks are made of."""
    n = h.ndim - 2
    if n > 2:
        return None
    k = g.pick(1, 3)
    return f"{layer(g, f'nn.Conv{n}d({h.channels}, {h.channels}, {k}, padding={k // 2}, bias={g.chance(0.7)})')}({h})"


@operation("image")
def rectangular_convolution(g: Any, h: Live) -> str:
    kernel = tuple(g.whole(1, min(3, size)) for size in h.shape[2:])
    stride, padding = (g.whole(1, 2), g.whole(1, 2)), g.pick("'valid'", "(0, 1)", "(1, 0)", "(2, 1)")
    return f"{layer(g, f'nn.Conv2d({h.channels}, {g.whole(1, 3)}, {kernel}, {stride}, {padding})')}({h})"


@operation("positions")
def functional_convolution(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2:
        return None
    k = min(2, *h.shape[2:])
    out = g.whole(1, 3)
    w = g.parameter(out, h.channels, *[k] * n)
    b = g.pick("None", g.parameter(out))
    weight = g.pick(w, f"{w} * 0.5", f"{w} / {w}.norm()", f"{w} - {w}.mean()")
    return f"F.conv{n}d({h}, {weight}, {b}, stride={g.whole(1, 2)})"


@operation("positions")
def transposed_convolution(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2 or max(h.shape[2:]) > 5:
        return None
    groups = g.pick(*[k for k in (1, 2, h.channels) if h.channels % k == 0])
    stride, dilation = g.whole(1, 2), g.pick(1, 1, 2)
    rest = f"{g.whole(0, 1)}, {g.whole(0, max(stride, dilation) - 1)}, {groups}, {g.chance(0.6)}, {dilation}"
    code = f"nn.ConvTranspose{n}d({h.channels}, {groups * g.whole(1, 2)}, {g.whole(2, 3)}, {stride}, {rest})"
    return f"{layer(g, code)}({h})"


@operation("any", weight=4)
def linear(g: Any, h: Live) -> str | None:
    """Over the last dimension, whatever comes before it."""
    if h.ndim < 2 or h.dim == h.ndim - 1:
        return None
    return f"{layer(g, f'nn.Linear({h.shape[-1]}, {g.whole(1, 5)}, bias={g.chance(0.7)})')}({h})"


@operation(weight=2)
def functional_linear(g: Any, h: Live) -> str:
    """With a bias of one number, of one for each feature, frozen or trained, or that is another layer's."""
    out = g.whole(1, 4)
    w = g.parameter(out, h.shape[-1])
    b = g.parameter(g.pick(1, out))
    weight = g.pick(w, w, f"{w} * 0.7", f"{w} / {w}.norm(dim=1, keepdim=True)", f"{w}.tanh()")
    return g.pick(
        f"F.linear({h}, {weight}, {b})",
        f"F.linear({h}, {weight}) + {b}",
        f"F.relu(F.linear({h}, {weight}, {b}))",
        f"F.linear({h}, {weight}, 2 * {b})",
    )


@operation("vector", weight=1.5)
def layer_and_activation(g: Any, h: Live) -> str:
    """Which may add the layer's bias, if it fits: of one number, or of one for each feature."""
    out = g.whole(1, 4)
    w, b = g.parameter(out, h.channels), g.parameter(g.pick(1, 1, out), trained=g.chance(0.5))
    layer = g.pick(f"F.linear({h}, {w}, {b})", f"torch.addmm({b}, {h}, {w}.t())", f"(F.linear({h}, {w}) + {b})")
    return g.pick(
        f"F.relu({layer})", f"F.leaky_relu({layer}, 0.2)", f"ops.bias_act({layer}, act='lrelu')", f"{layer}.relu()"
    )


@operation("vector", weight=0.7)
def flat_products(g: Any, h: Live) -> str:
    w, b = g.parameter(h.channels, g.whole(1, 4)), g.parameter(1)
    return g.pick(
        f"torch.addmm({b}, {h}, {w})",
        f"torch.addmm({b}[0], {h}, {w})",
        f"{h} @ {w}",
        f"torch.mm({h}, {w}) + {b}",
        f"({h} @ {w}[:, 0])[:, None]",
        f"torch.einsum('bi,io->bo', {h}, {w})",
        f"torch.addmm({b}, {h}, {w}, beta=2)",
        f"torch.mv({h}, {w}[:, 0]).unsqueeze(1)",
    )


@operation("positions")
def linear_of_channels(g: Any, h: Live) -> str:
    code = f"nn.Linear({h.channels}, {g.whole(1, 4)}, bias={g.chance(0.7)})"
    return f"{layer(g, code)}({h}.movedim(1, -1)).movedim(-1, 1)"


@operation(weight=1.5)
def matrix_product(g: Any, h: Live) -> str:
    right = g.parameter(h.shape[-1], g.whole(1, 4))
    options = [
        f"torch.matmul({h}, {right})",
        f"{h} @ {right}",
        f"torch.einsum('bc...,cd->bd...', {h}, {g.parameter(h.channels, 2)})",
    ]
    if h.ndim >= 3:
        left = g.parameter(g.whole(1, 3), h.shape[-2])
        options += [
            f"torch.matmul({left}, {h})",
            f"{left} @ {h}",
            f"torch.einsum('b...ij,kj->b...ki', {h}, {g.parameter(2, h.shape[-1])})",
        ]
    return g.pick(*options)


@operation(weight=1.2)
def weights_of_the_label(g: Any, h: Live) -> str | None:
    """A matrix for each sample."""
    if not g.labelled():
        return None
    out = g.whole(1, 3)
    e = g.module(f"nn.Embedding(4, {h.channels * out})")
    flat = f"{h}.flatten(2)" if h.ndim > 2 else f"{h}[..., None]"
    return g.pick(
        f"torch.bmm({e}(y).view(len({h}), {out}, {h.channels}), {flat}).reshape(len({h}), {out}, *{h}.shape[2:])",
        f"torch.einsum('boc,bc...->bo...', {e}(y).view(-1, {out}, {h.channels}), {h})",
        f"torch.bmm({flat}.mT, {e}(y).view(len({h}), {h.channels}, {out}))",
    )


@operation()
def bilinear_constant(g: Any, h: Live) -> str:
    """One weight and its transpose, or one layer twice."""
    w = g.parameter(3, h.shape[-1])
    m = g.module(f"nn.Linear({h.shape[-1]}, {h.shape[-1]})")
    return g.pick(
        f"F.linear(F.leaky_relu(F.linear({h}, {w}), 0.2), {w}.t())",
        f"{m}(F.leaky_relu({m}({h}), 0.2)) + 0.5 * {h}",
        f"{h} @ {w}.t() @ {w}",
        f"F.linear({h}, {m}.weight.t(), {m}.bias)",
        f"{h} + {m}(F.relu({h}))",
        f"{m}({h}).add_({h})",
    )


@operation()
def batch_norm_evaluating(g: Any, h: Live) -> Out | str | None:
    if not batch_norm_is_right(h):
        return None
    kind = {2: "1d", 3: "1d", 4: "2d"}.get(h.ndim, "3d")
    m = g.module(f"nn.BatchNorm{kind}({h.channels}, affine={g.chance(0.7)})")
    g.declare(f"{m}.running_mean.normal_(); {m}.running_var.uniform_(0.5, 2); {m}.eval()")
    return f"{m}({h})"


@operation(weight=1.2)
def equalised(g: Any, h: Live) -> str:
    if h.ndim == 4 and g.chance(0.7):
        k, act = g.pick(1, 3), g.pick("linear", "lrelu", "relu")
        change = g.pick("", "", ", up=2", ", down=2")
        return (
            f"{g.module(f'fastgan.nn.EqualizedConv2d({h.channels}, {g.whole(1, 3)}, {k}, act={act!r}{change})')}({h})"
        )
    act = g.pick("linear", "lrelu")
    code = f"fastgan.nn.EqualizedLinear({h.shape[-1]}, {g.whole(1, 4)}, act={act!r}, lr_multiplier={g.pick(1.0, 0.5)})"
    return f"{g.module(code)}({h})"


@operation("image", weight=0.8)
def resampling_convolution(g: Any, h: Live) -> str:
    """fastgan's: without a filter, it makes one."""
    w = g.parameter(g.whole(1, 3), h.channels, 3, 3)
    f = g.pick("None", "None", "ops.setup_filter([1, 3, 3, 1])")
    options = [f"ops.conv2d_resample({h}, {w}, {f}, {g.pick('up=2', 'down=2', 'up=1')}, padding=1)"]
    if g.labelled():
        e = g.module(f"nn.Embedding(4, {h.channels})")
        options.append(
            f"ops.modulated_conv2d({h}, {w}, {e}(y), padding=1, resample_filter={f}, "
            f"{g.pick('up=2', 'up=1', 'down=2')}, demodulate={g.chance(0.7)})"
        )
    return g.pick(*options)
