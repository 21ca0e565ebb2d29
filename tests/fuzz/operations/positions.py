"""Pooling, resampling, padding, filtering."""

from typing import Any

from tests.fuzz.operations.registry import Live, Out, operation


@operation("positions", weight=2)
def average_pool(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2 or min(h.shape[2:]) < 2:
        return f"F.adaptive_avg_pool{min(n, 2)}d({h}, 1)" if n <= 2 else None
    kernel = g.whole(1, min(3, *h.shape[2:]))
    rest = g.pick("", ", 1", ", 2", f", 1, {kernel // 2}", f", None, {kernel // 2}, True", ", None, 0, False, False")
    if n == 2 and g.chance(0.15):
        return f"F.avg_pool2d({h}, {kernel}, divisor_override=3)"
    if g.chance(0.5):
        return f"F.avg_pool{n}d({h}, 2)"
    return f"F.avg_pool{n}d({h}, {kernel}{rest})"


@operation("positions", weight=1.5)
def max_pool(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2:
        return None
    kernel = g.whole(1, min(3, *h.shape[2:]))
    rest = g.pick("", ", 1", ", 2", f", 1, {kernel // 2}", ", ceil_mode=True")
    return g.pick(
        f"F.max_pool{n}d({h}, {kernel}{rest})",
        f"F.adaptive_max_pool{n}d({h}, {g.whole(1, 3)})",
        f"F.max_pool{n}d({h}, 2)",
    )


@operation("positions", weight=1.5)
def reduced(g: Any, h: Live) -> str:
    dims = tuple(range(2, h.ndim))
    return g.pick(
        f"{h}.mean({dims})",
        f"{h}.sum({dims})",
        f"{h}.amax({dims})",
        f"{h}.mean(-1)",
        f"{h}.sum(1)",
        f"{h}.sum(-1, keepdim=True)",
        f"{h}.flatten(2).max(-1, keepdim=True)[0]",
        f"{h}.mean({dims}, keepdim=True)",
        f"{h}.flatten(2).amin(2)",
        f"{h}.min(-1, True).values",
        f"{h}.mean(1, keepdim=True)",
    )


@operation("positions", weight=1.2)
def resampled(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2 or max(h.shape[2:]) > 6:
        return None
    mode = g.pick(
        *(
            ("nearest", "linear", "area", "nearest-exact")
            if n == 1
            else ("nearest", "bilinear", "bicubic", "area", "bilinear")
        )
    )
    size = g.pick("scale_factor=2", "scale_factor=0.5", f"size={g.whole(1, 6)}", "scale_factor=1.5", "scale_factor=0.5")
    rest = ""
    if "linear" in mode or "cubic" in mode:
        rest = f", align_corners={g.chance(0.3)}"
        if n == 2 and "True" not in rest and g.chance(0.3):
            rest += ", antialias=True"
    return f"F.interpolate({h}, {size}, mode='{mode}'{rest})"


@operation("positions", weight=1.2)
def padded(g: Any, h: Live) -> str | None:
    n = h.ndim - 2
    if n > 2 or max(h.shape[2:]) > 7:
        return None
    mode = g.pick("constant", "constant", "reflect", "replicate", "circular")
    low, high = (-1 if min(h.shape[2:]) > 2 else 0, 2) if mode == "constant" else (0, min(2, min(h.shape[2:]) - 1))
    pads = [g.whole(low, high) for _ in range(2 * n)]
    value = f", value={g.pick(0.0, 0.7)}" if mode == "constant" else ""
    return f"F.pad({h}, {pads}, '{mode}'{value})"


@operation(weight=0.5)
def padded_channels(g: Any, h: Live) -> str:
    pads = [0, 0] * (h.ndim - 2) + [g.whole(0, 1), g.whole(0, 2)]
    return f"F.pad({h}, {pads}, value={g.pick(0.0, -1.0)})"


@operation("image", weight=1.5)
def blurred(g: Any, h: Live) -> Out | None:
    """One constant filter for all channels, as code bases write it."""
    if max(h.shape[2:]) > 7:
        return None
    f, c = g.name(), h.channels
    values = g.pick(
        "[[1., 2., 1.], [2., 4., 2.], [1., 2., 1.]]", "[[1., 1.], [1., 1.]]", "[[1., -3.]]", "[[1., 2.], [3., 4.]]"
    )
    before = f"{f} = torch.tensor({values}, dtype={h}.dtype) / 8"
    for_all = g.pick(f"{f}.expand({c}, 1, *{f}.shape)", f"{f}.repeat({c}, 1, 1, 1)")
    stride = g.whole(1, 2)
    return g.pick(
        Out(f"F.conv2d({h}, {for_all}, stride={stride}, padding=1, groups={c})", (before,)),
        Out(f"F.conv_transpose2d({h}, {for_all}, stride={stride}, groups={c})", (before,)),
        Out(
            f"F.conv2d({h}.flatten(0, 1).unsqueeze(1), {f}[None, None], stride={stride}, padding=1)"
            f".squeeze(1).unflatten(0, (-1, {c}))",
            (before,),
        ),
    )


@operation("image")
def shuffled(g: Any, h: Live) -> str | None:
    if h.channels % 4 == 0 and g.chance(0.5):
        return f"F.pixel_shuffle({h}, 2)"
    if h.shape[2] % 2 == 0 and h.shape[3] % 2 == 0:
        return f"F.pixel_unshuffle({h}, 2)"
    return None


@operation("image", weight=0.7)
def unfolded(g: Any, h: Live) -> str | None:
    if h.channels > 3 or min(h.shape[2:]) < 2:
        return None
    return g.pick(
        f"F.unfold({h}, 2, stride={g.whole(1, 2)}, padding={g.whole(0, 1)})",
        f"F.fold(F.unfold({h}, 2, padding=1), {h}.shape[2:], 2, padding=1)",
    )


@operation("image", weight=2)
def filtered(g: Any, h: Live) -> str:
    """fastgan's resampling; the filter None has weights of its own."""
    f = g.pick(
        "None",
        "None",
        "ops.setup_filter([1, 2, 1])",
        "ops.setup_filter([1, 3, 3, 1])",
        "ops.setup_filter([[1, 2], [3, 2]])",
    )
    return g.pick(
        f"ops.upfirdn2d({h}, {f}, padding=2)",
        f"ops.upfirdn2d({h}, {f}, up=2, padding=2)",
        f"ops.upfirdn2d({h}, {f}, down=2, padding=2)",
        f"ops.upsample2d({h}, {f})",
        f"ops.downsample2d({h}, {f})",
        f"ops.filter2d({h}, {f}, gain=0.7)",
        f"{g.module('fastgan.nn.Blur([1, 2, 1])')}({h})",
        f"{g.module('fastgan.nn.Downsample()')}({h})",
        f"{g.module('fastgan.nn.Upsample([1, 2, 1])')}({h})",
    )
