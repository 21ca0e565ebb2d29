"""A stand-in in plain PyTorch, with the names and signatures of the original and none of its code."""

from .. import misc
from . import conv2d_gradfix, upfirdn2d

calls = []


@misc.profiled_function
def conv2d_resample(x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False):
    """Every step at the full resolution, padded once at the beginning."""
    calls.append("conv2d_resample")
    (fw, fh), (x0, x1, y0, y1) = upfirdn2d.sizes(f), upfirdn2d.sides(padding)
    if up > 1:
        x0, x1, y0, y1 = x0 + (fw + up - 1) // 2, x1 + (fw - up) // 2, y0 + (fh + up - 1) // 2, y1 + (fh - up) // 2
    if down > 1:
        x0, x1 = x0 + (fw - down + 1) // 2, x1 + (fw - down) // 2
        y0, y1 = y0 + (fh - down + 1) // 2, y1 + (fh - down) // 2
    x = upfirdn2d.upfirdn2d(x, f if up > 1 else None, up, 1, [x0, x1, y0, y1], flip_filter, gain=up**2)
    x = conv2d_gradfix.conv2d(x, w if flip_weight else w.flip((2, 3)), groups=groups)
    return x if down == 1 else upfirdn2d.upfirdn2d(x, f, 1, down, 0, flip_filter)
