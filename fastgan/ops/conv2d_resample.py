"""conv2d_resample: a convolution between an upsampling and a downsampling, in the cheapest equivalent order.

There is no kernel here: it is composed of `convolution` and `upfirdn2d`, both exact to any derivative order.
"""

import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.convolution import conv2d, conv_transpose2d
from fastgan.ops.resample_filter import Padding, downsampling_padding, parse_padding, upsampling_padding
from fastgan.ops.upfirdn2d import upfirdn2d


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
        w: like x.
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
        ValueError: w has not four dimensions, or a factor or the padding is not of the kinds above.
    """
    if w.ndim != 4:
        raise ValueError(f"conv2d_resample: w has shape {list(w.shape)}, expected four dimensions")
    for name, factor in (("up", up), ("down", down)):
        if not isinstance(factor, int) or factor < 1:
            raise ValueError(f"conv2d_resample: {name} is {factor!r}, expected an integer of at least 1")
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
    return conv2d(F.pad(x, pads), w, groups=groups)


def _transposed(x: Tensor, w: Tensor, up: int, groups: int) -> Tensor:
    """The transposed convolution of stride `up` with w, [O, I / groups, kh, kw]."""
    if groups == 1:
        return conv_transpose2d(x, w.transpose(0, 1), stride=up)
    w = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return conv_transpose2d(x, w, stride=up, groups=groups)
