"""A stand-in in plain PyTorch, with the names and signatures of the original and none of its code."""

import torch
import torch.nn.functional as F

calls = []


def setup_filter(f, device=torch.device("cpu"), normalize=True, flip_filter=False, gain=1, separable=None):  # noqa: B008
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32, device=device)
    separable = f.ndim == 1 and f.numel() >= 8 if separable is None else separable
    f = f.reshape(-1) if f.ndim == 0 else f
    f = torch.outer(f, f) if f.ndim == 1 and not separable else f
    f = f / f.sum() if normalize else f
    f = f.flip(list(range(f.ndim))) if flip_filter else f
    return f * gain ** (f.ndim / 2)


def sizes(f):
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def sides(padding):
    padding = [padding] * 4 if isinstance(padding, int) else list(padding)
    return padding if len(padding) == 4 else [padding[0], padding[0], padding[1], padding[1]]


def pair(n):
    return (n, n) if isinstance(n, int) else tuple(n)


def upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl="cuda"):
    calls.append("upfirdn2d")
    (ux, uy), (dx, dy), channels = pair(up), pair(down), x.shape[1]
    spread = x.new_zeros(*x.shape[:2], x.shape[2] * uy, x.shape[3] * ux)
    spread[:, :, ::uy, ::ux] = x
    x = F.pad(spread, sides(padding))
    f = torch.ones(1, 1).to(x) if f is None else f.to(x)
    f = torch.outer(f, f) if f.ndim == 1 else f
    f = f if flip_filter else f.flip((0, 1))
    return F.conv2d(x, (f * gain).repeat(channels, 1, 1, 1), groups=channels)[:, :, ::dy, ::dx]


def filter2d(x, f, padding=0, flip_filter=False, gain=1, impl="cuda"):
    (w, h), (x0, x1, y0, y1) = sizes(f), sides(padding)
    around = [x0 + w // 2, x1 + (w - 1) // 2, y0 + h // 2, y1 + (h - 1) // 2]
    return upfirdn2d(x, f, padding=around, flip_filter=flip_filter, gain=gain, impl=impl)


def upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1, impl="cuda"):
    (w, h), (x0, x1, y0, y1), (ux, uy) = sizes(f), sides(padding), pair(up)
    around = [x0 + (w + ux - 1) // 2, x1 + (w - ux) // 2, y0 + (h + uy - 1) // 2, y1 + (h - uy) // 2]
    return upfirdn2d(x, f, up=up, padding=around, flip_filter=flip_filter, gain=gain * ux * uy, impl=impl)


def downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1, impl="cuda"):
    (w, h), (x0, x1, y0, y1), (dx, dy) = sizes(f), sides(padding), pair(down)
    around = [x0 + (w - dx + 1) // 2, x1 + (w - dx) // 2, y0 + (h - dy + 1) // 2, y1 + (h - dy) // 2]
    return upfirdn2d(x, f, down=down, padding=around, flip_filter=flip_filter, gain=gain, impl=impl)
