"""conv3x3: 3x3 convolutions of stride 1 with 16 products for each tile of 2x2 pixels instead of 36, on the CPU.

Winograd's minimal filtering (csrc/conv3x3.h has the formulas). PyTorch's convolutions there are direct ones at the peak
of the processor's arithmetic: what is faster has to multiply less. `convolution` takes it wherever it pays; this is
the same function for those who want it alone.
"""

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.checks import check_count
from fastgan.ops.convolution import convolution, minimal_convolution
from fastgan.ops.convolution.conv3x3_backends import fits, output_size
from fastgan.ops.convolution.minimal_filtering import check, check_size


def conv3x3(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I / groups, 3, 3]
    bias: Tensor | None = None,  # [O]
    padding: int = 1,
    groups: int = 1,
) -> Tensor:  # [B, O, H + 2 padding - 2, W + 2 padding - 2]
    """A 3x3 convolution of stride 1, on the CPU by minimal filtering whatever the size.

        y = F.conv2d(x, weight, bias, padding=padding, groups=groups)

    Differentiable to any order, each by the same two kernels. Winograd's F(2x2, 3x3): Lavin and Gray 2015, Fast
    Algorithms for Convolutional Neural Networks, arXiv:1509.09308, section 4.1. Sums are taken over tiles of four by
    four pixels: errors are as those of a direct convolution relative to the largest pixel of a tile, and infinity
    or NaN reach every pixel of it.

    Args:
        x, weight, bias: of one dtype; the kernel takes float32 and float64, contiguous or channels_last.
        padding: zeros on all four sides, 0 to 2.
        groups: the channels are divided into so many convolutions side by side.

    Returns:
        A tensor of the dtype of x.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: an argument has a wrong shape, or padding or groups is out of range.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    check_count("conv3x3", "groups", groups)
    check("conv3x3", x, weight, bias, 3, groups=groups)
    if padding not in (0, 1, 2):
        raise ValueError(f"conv3x3: padding is {padding!r}, expected 0, 1 or 2")
    check_size("conv3x3", x, padding, output_size(x, (padding, padding)))
    if select("conv3x3", x) == "reference" or not fits(x, weight, bias, (padding, padding), groups):
        return convolution(x, weight, bias, padding=padding, groups=groups)
    return minimal_convolution(x, weight, bias, stride=1, padding=(padding, padding), groups=groups)
