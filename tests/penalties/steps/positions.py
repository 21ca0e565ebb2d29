"""Pooling, resampling, padding."""

from typing import Any

import torch.nn.functional as F

from tests.penalties.steps.base import Draw, Shape, flag, pick, step, whole


@step()
def max_pool(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1 or min(shape[1:]) < 2:
        return None
    kernel = whole(draw, 1, min(3, *shape[1:]))
    pool = (F.max_pool1d, F.max_pool2d)[len(shape) - 2]
    settings = {
        "kernel_size": kernel,
        "stride": pick(draw, None, 1, 2),
        "padding": whole(draw, 0, kernel // 2),
        "ceil_mode": flag(draw),
    }
    return lambda m, h, y: m.pool(h, **m.settings), {"pool": pool, "settings": settings}


@step()
def average_pool(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1 or min(shape[1:]) < 2:
        return None
    kernel = whole(draw, 1, min(3, *shape[1:]))
    pool = (F.avg_pool1d, F.avg_pool2d)[len(shape) - 2]
    settings = {"kernel_size": kernel, "stride": pick(draw, None, 1, 2), "padding": whole(draw, 0, kernel // 2)}
    settings |= {"ceil_mode": flag(draw), "count_include_pad": flag(draw)}
    if len(shape) == 3 and flag(draw):
        settings["divisor_override"] = 3
    return lambda m, h, y: m.pool(h, **m.settings), {"pool": pool, "settings": settings}


@step()
def adaptive_pool(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1:
        return None
    pools = ((F.adaptive_avg_pool1d, F.adaptive_max_pool1d), (F.adaptive_avg_pool2d, F.adaptive_max_pool2d))
    size = whole(draw, 1, 4)
    return lambda m, h, y: m.pool(h, m.size), {"pool": pick(draw, *pools[len(shape) - 2]), "size": size}


@step()
def lp_like_pool(draw: Draw, shape: Shape) -> Any:
    """Maxima and means of everything but channels, positions kept as ones."""
    if len(shape) == 1:
        return None
    return pick(
        draw,
        lambda m, h, y: h.flatten(2).max(-1, keepdim=True)[0],
        lambda m, h, y: h.mean(-1, keepdim=True),
        lambda m, h, y: h.min(-1, True).values,
        lambda m, h, y: h.sum((-1,), keepdim=True),
    )


@step()
def resample(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1 or max(shape[1:]) > 5:
        return None
    modes = (
        ("nearest", "linear", "area", "nearest-exact")
        if len(shape) == 2
        else (
            "nearest",
            "bilinear",
            "bicubic",
            "area",
            "nearest-exact",
        )
    )
    settings: dict[str, Any] = {"mode": pick(draw, *modes)}
    if flag(draw):
        settings["scale_factor"] = pick(draw, 2, 0.5, 1.5) if min(shape[1:]) > 1 else 2
    else:
        settings["size"] = whole(draw, 1, 6)
    if "linear" in settings["mode"] or "cubic" in settings["mode"]:
        settings["align_corners"] = flag(draw)
        if len(shape) == 3 and not settings["align_corners"]:
            settings["antialias"] = flag(draw)
    return lambda m, h, y: F.interpolate(h, **m.settings), {"settings": settings}


@step()
def pad(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1 or max(shape[1:]) > 7:
        return None
    mode = pick(draw, "constant", "reflect", "replicate", "circular")
    low, high = (-1 if min(shape[1:]) > 2 else 0, 2) if mode == "constant" else (0, min(2, min(shape[1:]) - 1))
    pads = [whole(draw, low, high) for _ in range(2 * (len(shape) - 1))]
    value = pick(draw, 0.0, 0.7) if mode == "constant" else None
    return lambda m, h, y: F.pad(h, m.pads, m.mode, m.value), {"pads": pads, "mode": mode, "value": value}


@step()
def pad_channels(draw: Draw, shape: Shape) -> Any:
    pads = [0, 0] * (len(shape) - 1) + [whole(draw, 0, 1), whole(draw, 0, 2)]
    return lambda m, h, y: F.pad(h, m.pads, value=m.value), {"pads": pads, "value": pick(draw, 0.0, -1.0)}


@step()
def pixel_shuffle(draw: Draw, shape: Shape) -> Any:
    if len(shape) != 3:
        return None
    if shape[0] % 4 == 0 and max(shape[1:]) <= 4 and flag(draw):
        return lambda m, h, y: F.pixel_shuffle(h, 2)
    if shape[1] % 2 == 0 and shape[2] % 2 == 0 and shape[0] <= 4:
        return lambda m, h, y: F.pixel_unshuffle(h, 2)
    return None


@step()
def unfold(draw: Draw, shape: Shape) -> Any:
    if len(shape) != 3 or shape[0] > 3 or min(shape[1:]) < 2:
        return None
    return pick(
        draw,
        lambda m, h, y: F.unfold(h, 2, stride=m.stride, padding=m.padding),
        lambda m, h, y: F.fold(F.unfold(h, 2, padding=1), h.shape[2:], 2, padding=1),
    ), {"stride": whole(draw, 1, 2), "padding": whole(draw, 0, 1)}
