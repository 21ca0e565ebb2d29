"""Layers that blur an image, or change its size with a low-pass filter against aliasing."""

from collections.abc import Sequence

from torch import Tensor
from torch.types import Device

from fastgan.nn.exact_filter import ExactFilter
from fastgan.ops.upfirdn2d import downsample2d, filter2d, upfirdn2d, upsample2d
from fastgan.ops.upfirdn2d.filter import Padding, filter_of, parse_padding, parse_rate

Taps = Tensor | Sequence[float] | Sequence[Sequence[float]]


class _Resample(ExactFilter):
    """Holds the filter: a buffer `filter`, [h, w] or [n] (`fastgan.ops.setup_filter`), normalised, float32."""

    filter: Tensor
    filter_name = "filter"

    def __init__(self, filter: Taps, device: Device) -> None:
        super().__init__()
        self.register_filter(filter_of(type(self).__name__, "filter", filter), device)

    def reset_parameters(self) -> None:
        """Sets the filter to that of the constructor."""
        self.reset_filter()

    def extra_repr(self) -> str:
        return f"filter={'x'.join(map(str, self.filter.shape))}"


class Blur(_Resample):
    """A low-pass filter over each channel, as StyleGAN2 has beside its strided convolutions.

    Args:
        filter: taps, [n] or [h, w], normalised to the sum 1.
        padding: zeros on all four sides, (x, y) or (left, right, top, bottom), negative to crop; None keeps the size.
        device: of the filter, which is float32 whatever the dtype of the images.

    Shape: [B, C, H, W] -> [B, C, H, W], or [B, C, H + top + bottom - h + 1, W + left + right - w + 1] with padding.
    """

    def __init__(self, filter: Taps = (1, 3, 3, 1), padding: Padding | None = None, device: Device = None) -> None:
        super().__init__(filter, device)
        self.padding = None if padding is None else parse_padding("Blur", padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding is None:
            return filter2d(x, self.filter)
        return upfirdn2d(x, self.filter, padding=self.padding)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.padding is None else f", padding={self.padding}")


class Upsample(_Resample):
    """Inserts zeros between the pixels of each channel, then interpolates with a low-pass filter.

    Args:
        filter: taps, [n] or [h, w], normalised so that a constant image keeps its value away from the border.
        factor: the rate, one for both directions or (x, y).
        device: of the filter, which is float32 whatever the dtype of the images.

    Shape: [B, C, H, W] -> [B, C, H * factor, W * factor]
    """

    def __init__(self, filter: Taps = (1, 3, 3, 1), factor: int | Sequence[int] = 2, device: Device = None) -> None:
        super().__init__(filter, device)
        self.factor = parse_rate("Upsample", "factor", factor)

    def forward(self, x: Tensor) -> Tensor:
        return upsample2d(x, self.filter, self.factor)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, factor={self.factor}"


class Downsample(_Resample):
    """Low-pass filters each channel, then keeps one pixel of `factor`, which does not alias.

    Args:
        filter: taps, [n] or [h, w], normalised to the sum 1.
        factor: the rate, one for both directions or (x, y).
        device: of the filter, which is float32 whatever the dtype of the images.

    Shape: [B, C, H, W] -> [B, C, H / factor, W / factor]
    """

    def __init__(self, filter: Taps = (1, 3, 3, 1), factor: int | Sequence[int] = 2, device: Device = None) -> None:
        super().__init__(filter, device)
        self.factor = parse_rate("Downsample", "factor", factor)

    def forward(self, x: Tensor) -> Tensor:
        return downsample2d(x, self.filter, self.factor)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, factor={self.factor}"
