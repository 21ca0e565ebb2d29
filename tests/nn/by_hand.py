"""The layers in numpy and scipy, in float64: full convolutions of whole images, cut out afterwards."""

import numpy as np
from scipy.signal import convolve2d


def taps_2d(taps):
    """Normalised, [h, w]; a vector is applied in both directions."""
    taps = np.asarray(taps, dtype=np.float64)
    taps = np.outer(taps, taps) if taps.ndim == 1 else taps
    return taps / taps.sum()


def each(x, function):
    """`function` of every image of [B, C, H, W]."""
    return np.stack([[function(image) for image in sample] for sample in x])


def with_zeros(x, up):
    """`up` is (x, y)."""
    ux, uy = up
    B, C, H, W = x.shape
    wide = np.zeros((B, C, H * uy, W * ux))
    wide[:, :, ::uy, ::ux] = x
    return wide


def cut(image, first, step, size):
    """Of a full convolution, with zeros around it: every `step`-th value from `first`; all three are (y, x)."""
    around = 8
    (y, x), (dy, dx), (height, width) = first, step, size
    return np.pad(image, around)[around + y :: dy, around + x :: dx][:height, :width]


def blurred(x, taps):
    return each(x, lambda image: convolve2d(image, taps_2d(taps), mode="same"))


def upsampled(x, taps, up=(2, 2)):
    """StyleGAN2's alignment: (n + up - 1) // 2 zeros before an image that n taps filter."""
    f = taps_2d(taps)
    first = [n - 1 - (n + u - 1) // 2 for n, u in zip(f.shape, up[::-1], strict=True)]
    size = x.shape[2] * up[1], x.shape[3] * up[0]
    wide = with_zeros(x, up) * up[0] * up[1]
    return each(wide, lambda image: cut(convolve2d(image, f), first, (1, 1), size))


def downsampled(x, taps, down=(2, 2)):
    """StyleGAN2's alignment: (n - down + 1) // 2 zeros before an image that n taps filter, of which pixels are kept."""
    f, rates = taps_2d(taps), down[::-1]
    first = [n - 1 - (n - d + 1) // 2 for n, d in zip(f.shape, rates, strict=True)]
    size = x.shape[2] // rates[0], x.shape[3] // rates[1]
    return each(x, lambda image: cut(convolve2d(image, f), first, rates, size))


def convolution(x, w, taps=None, up=1, down=1):
    """[B, I, H, W] with [O, I, k, k], k odd, zeros around: a correlation, but a convolution where it is upsampled.

    Zeros are inserted, the filter and w follow, all with nothing but zeros beyond the image; then pixels are kept.
    """
    f = np.ones((1, 1)) if taps is None or up == down == 1 else taps_2d(taps)
    n, k = f.shape[0], w.shape[2]
    before = (n + up - 1) // 2 if up > 1 else (n - down + 1) // 2
    first = n - 1 - before + k // 2
    size = x.shape[2] * up // down, x.shape[3] * up // down
    wide = with_zeros(x, (up, up)) * up**2
    kernels = w if up > 1 else w[:, :, ::-1, ::-1]
    result = np.zeros((x.shape[0], w.shape[0], *size))
    for b, o, i in np.ndindex(x.shape[0], w.shape[0], w.shape[1]):
        full = convolve2d(convolve2d(wide[b, i], f), kernels[o, i])
        result[b, o] += cut(full, (first, first), (down, down), size)
    return result


def modulated(x, w, styles, demodulate=True, **resampling):
    """A convolution for each sample (Karras et al. 2020, arXiv:1912.04958, equations 1 and 3; eps is 1e-8)."""
    results = []
    for image, style in zip(x, styles, strict=True):
        scaled = w * style[:, None, None]
        if demodulate:
            scaled = scaled / np.sqrt((scaled**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
        results.append(convolution(image[None], scaled, **resampling))
    return np.concatenate(results)


def lrelu(x, gain=1.0, clamp=np.inf):
    """With the gain that keeps the variance, sqrt(2); `gain` scales the result and the clamp."""
    return np.clip(np.sqrt(2) * gain * np.where(x > 0, x, 0.2 * x), -clamp * gain, clamp * gain)
