"""Piecewise linear functions, and a few smooth ones."""

from typing import Any

from tests.fuzz.operations.arithmetic import broadcastable
from tests.fuzz.operations.registry import Live, operation


@operation("any", weight=5)
def leaky_relu(g: Any, h: Live) -> str:
    return g.pick(
        f"F.leaky_relu({h}, 0.2)",
        f"F.leaky_relu({h})",
        f"F.leaky_relu({h}, 1.5)",
        f"F.leaky_relu({h}, -0.3)",
        f"F.leaky_relu({h}, 0.2) * 2**0.5",
        f"{g.module('nn.LeakyReLU(0.2)')}({h})",
        f"F.leaky_relu({h}, 0.2)",
        f"{g.module('nn.LeakyReLU(0.1, inplace=True)')}({h} * 1.5)",
        f"F.leaky_relu({h}, 0.0)",
    )


@operation("any", weight=4)
def relu(g: Any, h: Live) -> str:
    return g.pick(
        f"torch.relu({h})",
        f"F.relu({h})",
        f"F.relu_({h} + 0.1)",
        f"({h} + 0.1).relu_()",
        f"{g.module('nn.ReLU()')}({h})",
        f"{h}.relu()",
        f"{g.module('nn.ReLU(inplace=True)')}({h} - 0.1)",
        f"F.relu({h}) - F.relu(-{h})",
    )


@operation("any", weight=2)
def bounded(g: Any, h: Live) -> str:
    return g.pick(
        f"F.relu6({h})",
        f"F.hardtanh({h})",
        f"F.hardtanh({h}, -2, 0.5)",
        f"{h}.clamp(-0.4, 0.8)",
        f"{h}.clamp(min=-0.2)",
        f"{h}.clamp(max=0.3)",
        f"F.threshold({h}, -0.1, 0.4)",
        f"{h}.clip(0, 1)",
        f"{h}.clamp_min(-0.1)",
        f"{h}.clamp(min=torch.tensor(-0.2))",
        f"torch.clamp({h}, -1, 1)",
        f"F.hardtanh({h} * 2)",
    )


@operation("any")
def absolute(g: Any, h: Live) -> str:
    return g.pick(
        f"{h}.abs()", f"torch.abs({h})", f"({h} * 2).abs_()", f"{h}.relu() + (-{h}).relu()", f"torch.maximum({h}, -{h})"
    )


@operation(weight=1.5)
def prelu(g: Any, h: Live) -> str:
    n = g.pick(1, h.channels)
    return g.pick(
        f"{g.module(f'nn.PReLU({n})')}({h})", f"F.prelu({h}, {g.parameter(n)})", f"F.prelu({h}, {g.parameter(n)}.abs())"
    )


@operation(weight=2)
def bias_act(g: Any, h: Live) -> str:
    act = g.pick("lrelu", "relu", "linear", "lrelu")
    clamp = g.pick("None", "None", "0.5")
    dim = g.pick(1, 1, h.ndim - 1)
    b = g.pick(g.parameter(h.shape[dim]), "None")
    return g.pick(
        f"ops.bias_act({h}, {b}, {dim}, act='{act}', clamp={clamp})",
        f"{g.module(f'fastgan.nn.BiasAct({h.shape[dim]}, act={act!r}, clamp={clamp}, dim={dim})')}({h})",
        f"ops.bias_act({h}, {b}, {dim}, act='{act}', gain=0.7)",
    )


@operation("any", weight=1.5)
def larger_or_smaller(g: Any, h: Live) -> str:
    p = g.parameter(*broadcastable(g, h))
    return g.pick(
        f"torch.maximum({h}, {p})",
        f"torch.minimum({h}, {p})",
        f"torch.maximum({h}.relu(), (-{h}).relu())",
        f"torch.minimum({h}, -{h})",
        f"torch.max({h}, torch.zeros_like({h}))",
        f"torch.maximum({h}, 0.5 * {h})",
    )


@operation("any", weight=1.5)
def choice(g: Any, h: Live) -> str:
    p = g.parameter(*broadcastable(g, h))
    return g.pick(
        f"torch.where({h} > 0, {h}, 0.3 * {h} + 0.1)",
        f"torch.where({h} > 0.1, {h}, {p})",
        f"torch.where({h} > 0.1, {p}, {h})",
        f"{h}.masked_fill({h} < 0, 0.5)",
        f"torch.where({h} > 0, {h}, 0.0)",
        f"{h} * ({h} > 0)",
        f"{h} * {h}.sign()",
        f"torch.where({h} > 0, {h} * {p}, {h})",
        f"({h} > 0) * {p} + {h}",
        f"{h}.masked_fill({h} > 1, {g.parameter(trained=False)})",
    )


@operation()
def maxout(g: Any, h: Live) -> str | None:
    if h.channels % 2:
        return g.pick(f"{h}.amax(1, keepdim=True)", f"{h}.max(1, keepdim=True).values", f"{h}.amin(1, True) + {h}")
    return g.pick(
        f"torch.maximum(*{h}.chunk(2, 1))",
        f"{h}.unflatten(1, (-1, 2)).max(2).values",
        f"{h}.unflatten(1, (2, -1)).min(1).values",
        f"{h}.unflatten(1, (2, -1)).amax(1)",
        f"torch.minimum({h}[:, ::2], {h}[:, 1::2])",
    )


@operation(weight=0.5)
def tied_maxima(g: Any, h: Live) -> str:
    """Equal elements share the derivative of amax."""
    return g.pick(
        f"torch.cat([{h}, {h}, {h}], 1).amax(1, keepdim=True) - {h}",
        f"torch.stack([{h}, {h}, {h}], 1).amax(1)",
        f"torch.stack([{h}, {h}], -1).amin(-1)",
        f"torch.maximum({h}, {h}[:])",
        f"torch.stack([{h}, {h}], 1).max(1).values",
    )


@operation("any")
def random(g: Any, h: Live) -> str:
    """Random, but constant for the derivative."""
    return g.pick(
        f"{h} + 0.1 * torch.randn_like({h})",
        f"F.dropout({h}, 0.3)",
        f"F.dropout({h} * 2, 0.5, inplace=True)",
        f"{h} * (torch.rand_like({h}) > 0.2)",
        f"{g.module('nn.Dropout(0.3)')}({h})",
        f"{g.module('nn.Dropout2d(0.3)')}({h})" if h.plain and h.ndim == 4 else f"F.dropout({h}, 0.2)",
    )


@operation("any", eligible=False, weight=0.7)
def smooth(g: Any, h: Live) -> str:
    return g.pick(
        f"torch.tanh({h})",
        f"F.softplus({h})",
        f"F.silu({h})",
        f"F.gelu({h})",
        f"F.elu({h})",
        f"{h}.sigmoid()",
        f"torch.sin({h})",
        f"F.mish({h})",
        f"({h} * 2).tanh_()",
        f"{h}.abs().add(1).log()",
        f"F.softshrink({h})",
        f"F.hardswish({h})",
        f"F.selu({h})",
        f"ops.bias_act({h}, act='swish')" if h.plain else f"F.silu({h})",
        f"F.rrelu({h}, training=True)",
        f"F.hardsigmoid({h})",
        f"torch.fft.rfft({h}, dim=-1).abs()" if h.plain else f"{h}.sin()",
    )


@operation("plain", eligible=False, weight=1)
def without_a_rule(g: Any, h: Live) -> str:
    """Piecewise linear, but perhaps not known to be; and what a rule may take for something else."""
    flat = f"{h}.flatten(2)" if h.ndim > 2 else f"{h}[:, :, None]"
    options = [
        f"F.hardshrink({h})",
        f"{h}.sort(1).values",
        f"{h}.topk(1, 1).values",
        f"{h}.median(1, keepdim=True).values",
        f"{h}.remainder(0.7)",
        f"{h}.frac()",
        f"{h}.nan_to_num()",
        f"torch.fmin({h}, {h} * 0.5)",
        f"torch.lerp({h}, {h}.abs(), torch.full_like({h}, 0.2))",
        f"{h}.copysign({h}.abs())",
        f"{h}.clone().index_fill_(1, torch.tensor([0]), 0.3)",
        f"torch.fmax({h}, {g.parameter(h.shape[-1])})",
        f"{h}.flatten(1).mean(1, keepdim=True).clamp(min=torch.linspace(-1, 1, 5))",
        f"torch.cat([torch.empty(0, dtype={h}.dtype), {h}], 1)",
        f"torch.baddbmm({g.parameter(1, 1, 1)}, {flat}, {h}.new_ones(len({h}), {h}[0, 0].numel(), 2))",
        f"F.glu(torch.cat([{h}, {h}], 1), 1)",
        f"{h}.logcumsumexp(1)",
        f"F.bilinear({h}, {h}, {h}.new_ones(3, {h}.shape[-1], {h}.shape[-1]))",
    ]
    if h.ndim == 4 and min(h.shape[2:]) > 1:
        options += [f"(F.unfold({h}.mean(1), 2) + 1).abs().view(len({h}), -1)"] * 3
    return g.pick(*options)
