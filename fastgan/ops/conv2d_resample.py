"""conv2d_resample: a convolution between an upsampling and a downsampling, in the cheapest equivalent order.

There is no kernel here: it is composed of `convolution` and `upfirdn2d`, both exact to any derivative order.
"""

from typing import Any, NamedTuple

from torch import Tensor

from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.checks import check_count, check_floating
from fastgan.ops.convolution import conv2d, conv_transpose2d
from fastgan.ops.upfirdn2d import upfirdn2d
from fastgan.ops.upfirdn2d.filter import Padding, check_filter, downsampling_padding, parse_padding, upsampling_padding


def conv2d_resample(
    x: Tensor,  # [B, I, H, W]
    w: Tensor,  # [O, I / groups, kh, kw]
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    """Upsamples by `up`, convolves with w, downsamples by `down`; f filters at either change of resolution.

    The same as `downsample2d(conv2d(upsample2d(x, f, up), w), f, down)` with padding, but a convolution works at the
    lower resolution where that gives the same result: after a strided or before a filtered step it never computes a
    pixel that is thrown away, nor multiplies one that was inserted as zero. Differentiable to any order.

    The signature is the one that users of StyleGAN2-ADA know (Karras et al. 2020, arXiv:2006.06676).

    Args:
        x: any floating dtype.
        w: of the dtype of x, unless torch.autocast is on.
        f: the filter, of `setup_filter`; None for none.
        up, down: factors of the resolution, at least 1.
        padding: of the upsampled image: one number, (x, y) or (x0, x1, y0, y1). With (k - 1) / 2 and an odd kernel the
            result has the size H * up / down.
        groups: the channels are divided into so many convolutions side by side.
        flip_weight: True correlates with w, as convolutions in PyTorch do; False convolves.
        flip_filter: as in `upfirdn2d`.

    Returns:
        [B, O, H', W'].

    Raises:
        TypeError: x, w or f is not a floating tensor.
        ValueError: an argument has a wrong shape, dtype, device or range, or the result would have no pixels.
    """
    _check(x, w, f, groups)
    result_size("conv2d_resample", x, w, up, down, padding)
    return resampled(x, w, f, Resampling(up, down, padding, groups, flip_weight, flip_filter))


class Resampling(NamedTuple):
    """The arguments of `conv2d_resample` that are not tensors."""

    up: int = 1
    down: int = 1
    padding: Padding = 0
    groups: int = 1
    flip_weight: bool = True
    flip_filter: bool = False


def resampled(x: Tensor, w: Tensor, f: Tensor | None, how: Resampling) -> Tensor:
    """`conv2d_resample` of arguments that have been checked."""
    up, down, padding, groups, flip_weight, flip_filter = how
    pads = parse_padding("conv2d_resample", padding)
    kh, kw = w.shape[2:]
    if up > 1:
        pads = upsampling_padding(f, (up, up), pads)
    if down > 1:
        pads = downsampling_padding(f, (down, down), pads)
    x0, x1, y0, y1 = pads
    if up > 1 and (down > 1 or kh * kw > 1):
        # A transposed convolution is the convolution of the image with zeros inserted; the filter comes after it. It
        # adds every tap at its place, where a correlation reads the taps from the other end.
        x = _transposed(x, w.flip((2, 3)) if flip_weight else w, up, groups)
        pads = (x0 - (kw - 1), x1 - (kw - up), y0 - (kh - 1), y1 - (kh - up))
        x = upfirdn2d(x, f, padding=pads, gain=up**2, flip_filter=flip_filter)
        return x if down == 1 else upfirdn2d(x, f, down=down, flip_filter=flip_filter)

    if not flip_weight:
        w = w.flip((2, 3))
    if up > 1:  # a 1x1 convolution commutes with the filter: before it there are fewer pixels
        return upfirdn2d(conv2d(x, w, groups=groups), f, up, padding=pads, gain=up**2, flip_filter=flip_filter)

    if down > 1:
        if kh == kw == 1:  # and after it, likewise
            return conv2d(upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter), w, groups=groups)
        return conv2d(upfirdn2d(x, f, padding=pads, flip_filter=flip_filter), w, stride=down, groups=groups)
    if x0 == x1 >= 0 and y0 == y1 >= 0:
        return conv2d(x, w, padding=(y0, x0), groups=groups)
    return conv2d(upfirdn2d(x, None, padding=pads), w, groups=groups)


def result_size(op: str, x: Tensor, w: Tensor, up: int, down: int, padding: Padding) -> tuple[int, int]:
    """Height and width of the result; it does not depend on the filter.

    Raises:
        ValueError: a factor or the padding is not of the kinds above, or there would be no pixel; it starts with `op`.
    """
    check_count(op, "up", up)
    check_count(op, "down", down)
    x0, x1, y0, y1 = parse_padding(op, padding)
    (H, W), (kh, kw) = x.shape[2:], w.shape[2:]
    size = (H * up + y0 + y1 - kh + 1) // down, (W * up + x0 + x1 - kw + 1) // down
    if min(size) < 1:
        raise ValueError(
            f"{op}: x has shape {list(x.shape)}, expected an image that leaves a pixel: with a kernel of {kh}x{kw}, "
            f"up = {up}, down = {down} and padding = {padding} the result would be {size[0]}x{size[1]}"
        )
    return size


def _check(x: Any, w: Any, f: Any, groups: Any) -> None:
    for name, tensor in (("x", x), ("w", w)):
        check_floating("conv2d_resample", name, tensor)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"conv2d_resample: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    check_filter("conv2d_resample", f, x.device)
    check_count("conv2d_resample", "groups", groups)
    if x.shape[1] % groups != 0:
        raise ValueError(f"conv2d_resample: groups is {groups}, expected a divisor of the {x.shape[1]} channels of x")
    inputs = x.shape[1] // groups
    if w.ndim != 4 or 0 in w.shape or w.shape[1] != inputs or w.shape[0] % groups != 0:
        of_groups = "" if groups == 1 else f" with out a multiple of groups, {groups}"
        expected = f"[out, {inputs}, height, width]{of_groups}"
        raise ValueError(f"conv2d_resample: w has shape {list(w.shape)}, expected {expected}")
    if w.device != x.device:
        raise ValueError(f"conv2d_resample: w is on {w.device}, expected {x.device} like x")
    if w.dtype != x.dtype and not autocasts(x.device.type):
        raise ValueError(f"conv2d_resample: w is {w.dtype}, expected {x.dtype} like x")


def _transposed(x: Tensor, w: Tensor, up: int, groups: int) -> Tensor:
    """The transposed convolution of stride `up` with w, [O, I / groups, kh, kw]."""
    if groups == 1:
        return conv_transpose2d(x, w.transpose(0, 1), stride=up)
    w = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return conv_transpose2d(x, w, stride=up, groups=groups)
