"""conv_stride2: 3x3 and 4x4 convolutions of stride 2 with 25 or 36 products for each 2x2 pixels instead of 36 or 64.

Minimal filtering of the even and of the odd pixels, on the CPU (csrc/conv_stride2.h has the formulas). DCGAN's critics
and those of StyleGAN2 halve the resolution by them, and their generators double it by the transposes. `convolution`
takes it wherever it pays; this is the same function for those who want it alone.
"""

from torch import Tensor

from fastgan.backends import select
from fastgan.ops.convolution import convolution, minimal_convolution
from fastgan.ops.convolution.conv_stride2_backends import fits, output_size
from fastgan.ops.convolution.minimal_filtering import check, check_size


def conv_stride2(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, 3, 3] or [O, I, 4, 4]
    bias: Tensor | None = None,  # [O]
    padding: int = 1,
) -> Tensor:  # [B, O, H', W'], H' = floor((H + 2 padding - kernel) / 2) + 1
    """A 3x3 or 4x4 convolution of stride 2, on the CPU by minimal filtering whatever the size.

        y = F.conv2d(x, weight, bias, stride=2, padding=padding)

    Differentiable to any order, by this kernel, its transpose and its gradient to the filters. Winograd's F(2, 2)
    (Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2015, arXiv:1509.09308) along each axis, of
    the even pixels and taps and of the odd ones. Sums are taken over tiles of five or six pixels' side: errors are
    as those of a direct convolution relative to the largest pixel of a tile, and infinity or NaN reach every pixel
    of it.

    Args:
        x, weight, bias: of one dtype; the kernel takes float32 and float64, contiguous or channels_last.
        padding: zeros on all four sides.

    Returns:
        A tensor of the dtype of x.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: an argument has a wrong shape, or padding is negative.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    check("conv_stride2", x, weight, bias, 3, 4)
    if not isinstance(padding, int) or padding < 0:
        raise ValueError(f"conv_stride2: padding is {padding!r}, expected an integer of at least 0")
    check_size("conv_stride2", x, padding, output_size(x, weight, padding))
    if select("conv_stride2", x) == "reference" or not fits(x, weight, bias, (padding, padding)):
        return convolution(x, weight, bias, stride=2, padding=padding)
    return minimal_convolution(x, weight, bias, stride=2, padding=(padding, padding))
