"""StyleGAN2's modulated layers (Karras et al. 2020, arXiv:1912.04958): convolutions whose weights the style scales."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.types import Device

from fastgan.nn.equalized import EqualizedLinear, check_kernel_size, default_gain, filter_where
from fastgan.nn.exact_filter import ExactFilter
from fastgan.ops._common.activations import resolved
from fastgan.ops._common.checks import check_count, check_shape
from fastgan.ops.modulated_conv2d import modulated_conv2d, styled_conv2d


class ModulatedConv2d(ExactFilter):
    """A convolution whose weights are scaled by styles, an affine function of the latent w, and demodulated.

    Args:
        in_channels, out_channels, kernel_size: of the convolution; the kernel is square and odd.
        w_dim: numbers in a latent w.
        demodulate: whether every filter is normalised after it was scaled.
        up: factor of the resolution.
        resample_filter: what filters the upsampled image: the taps of `fastgan.ops.setup_filter`.
        device, dtype: of the parameters, as in torch.nn; the filter is float32.

    Shape: x [B, in_channels, H, W], w [B, w_dim] -> [B, out_channels, H up, W up]

    Raises, as every layer here:
        ValueError: an argument, or the shape of an input, is none of these.
        TypeError: an input is not a floating tensor.
    """

    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        w_dim: int,
        demodulate: bool = True,
        up: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        counts = {"in_channels": in_channels, "out_channels": out_channels, "w_dim": w_dim, "up": up}
        for name, value in counts.items():
            check_count(layer, name, value)
        check_kernel_size(layer, kernel_size)
        self.in_channels, self.w_dim, self.fan_in = in_channels, w_dim, in_channels * kernel_size**2
        self.demodulate, self.up, self.padding = demodulate, up, kernel_size // 2
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0, device=device, dtype=dtype)
        shape = out_channels, in_channels, kernel_size, kernel_size
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(shape, device=device, dtype=dtype)))
        self.register_filter(filter_where(layer, up > 1, resample_filter), device)

    def reset_parameters(self) -> None:
        """Draws normal weights and styles around 1, and sets the filter to that of the constructor."""
        self.affine.reset_parameters()
        nn.init.normal_(self.weight)
        self.reset_filter()

    def styles(self, w: Tensor) -> Tensor:
        """The scale of every input channel, [B, in_channels], around 1.

        Where nothing is demodulated they also carry the equalised learning rate's constant.
        """
        styles = self.affine(w)
        return styles if self.demodulate else styles * (1 / self.fan_in**0.5)

    def check(self, x: Tensor, w: Tensor) -> None:
        """Raises ValueError or TypeError for inputs of another shape or dtype."""
        layer = type(self).__name__
        check_shape(layer, "x", x, ("batch", self.in_channels, "height", "width"))
        check_shape(layer, "w", w, (x.shape[0], self.w_dim))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        self.check(x, w)
        return modulated_conv2d(
            x, self.weight, self.styles(w), up=self.up, padding=self.padding, resample_filter=self.resample_filter,
            demodulate=self.demodulate, flip_weight=self.up == 1,
        )  # fmt: skip

    def extra_repr(self) -> str:
        out_channels, in_channels, size, _ = self.weight.shape
        up = f", up={self.up}" if self.up > 1 else ""
        return f"{in_channels}, {out_channels}, {size}, demodulate={self.demodulate}{up}"


class StyledConv(ModulatedConv2d):
    """A layer of the synthesis network: modulated convolution, noise, bias and activation.

    Args:
        in_channels, out_channels, kernel_size, w_dim, up, resample_filter: as in `ModulatedConv2d`.
        size: height and width of the result, for the noise; multiples of `up`.
        act, clamp: as in `fastgan.ops.bias_act`.
        device, dtype: of the parameters and the constant noise, as in torch.nn.

    Shape: x [B, in_channels, H, W], w [B, w_dim] -> [B, out_channels, *size]
    """

    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        kernel_size: int = 3,
        up: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        act: str = "lrelu",
        clamp: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, w_dim, up=up, resample_filter=resample_filter, device=device,
            dtype=dtype,
        )  # fmt: skip
        layer = type(self).__name__
        resolved(layer, act, None, None, clamp)
        check_image_size(layer, size, up)
        self.act, self.clamp = act, clamp
        self.register_buffer("noise_const", torch.randn(size, device=device, dtype=dtype))
        self.noise_strength = nn.Parameter(torch.zeros([], device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """As `ModulatedConv2d`; draws the constant noise, and sets its strength and the bias to 0."""
        super().reset_parameters()
        nn.init.normal_(self.noise_const)
        nn.init.zeros_(self.noise_strength)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor, noise: str = "random", gain: float = 1.0) -> Tensor:
        """`noise`: `random` for each image, `const` for all, or `none`; `gain` scales the result and the clamp."""
        self.check(x, w)
        drawn = draw_noise(type(self).__name__, noise, x, self.noise_const, self.up)
        return styled_conv2d(
            x, self.weight, self.styles(w), drawn, self.noise_strength, self.bias,
            up=self.up, padding=self.padding, resample_filter=self.resample_filter, flip_weight=self.up == 1,
            act=self.act, gain=default_gain(self.act) * gain, clamp=None if self.clamp is None else self.clamp * gain,
        )  # fmt: skip

    def extra_repr(self) -> str:
        clamp = f", clamp={self.clamp}" if self.clamp is not None else ""
        return f"{super().extra_repr()}, size={tuple(self.noise_const.shape)}, act={self.act!r}{clamp}"


class ToRGB(ModulatedConv2d):
    """From activations to the channels of an image: a 1x1 modulated convolution without demodulation, and a bias.

    Args:
        in_channels, w_dim: as in `ModulatedConv2d`.
        out_channels: of the image.
        clamp: bound of the absolute value of the result; None for no bound.
        device, dtype: of the parameters, as in torch.nn.

    Shape: x [B, in_channels, H, W], w [B, w_dim] -> [B, out_channels, H, W]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        clamp: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, 1, w_dim, demodulate=False, device=device, dtype=dtype)
        resolved(type(self).__name__, "linear", None, None, clamp)
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(out_channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """As `ModulatedConv2d`; sets the bias to 0."""
        super().reset_parameters()
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        self.check(x, w)
        return styled_conv2d(x, self.weight, self.styles(w), bias=self.bias, demodulate=False, clamp=self.clamp)

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", clamp={self.clamp}" if self.clamp is not None else "")


class NoiseInjection(nn.Module):
    """Adds noise with a learnt strength, one value for each pixel (Karras et al. 2019, arXiv:1812.04948, section 3.2).

    `StyledConv` does this in the pass of its activation; this is the layer apart, for networks that want it so.

    Args:
        size: height and width of the image, for the constant noise; None for networks that only draw it.
        device, dtype: of the noise's strength and the constant noise, as in torch.nn.

    Shape: [B, C, H, W] -> the same
    """

    noise_const: Tensor | None

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if size is not None:
            check_image_size("NoiseInjection", size)
        constant = None if size is None else torch.randn(size, device=device, dtype=dtype)
        self.register_buffer("noise_const", constant)
        self.noise_strength = nn.Parameter(torch.zeros([], device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draws the constant noise, and sets its strength to 0."""
        if self.noise_const is not None:
            nn.init.normal_(self.noise_const)
        nn.init.zeros_(self.noise_strength)

    def forward(self, x: Tensor, noise: str = "random") -> Tensor:
        check_shape("NoiseInjection", "x", x, ("batch", "channels", "height", "width"))
        drawn = draw_noise("NoiseInjection", noise, x, self.noise_const)
        return x if drawn is None else x + (self.noise_strength * drawn).to(x.dtype)

    def extra_repr(self) -> str:
        return f"size={None if self.noise_const is None else tuple(self.noise_const.shape)}"


def draw_noise(layer: str, noise: str, x: Tensor, constant: Tensor | None, up: int = 1) -> Tensor | None:
    """The noise for x upsampled by `up`: [B, 1, H, W] from PyTorch's global generator, the constant, or None."""
    if noise not in ("random", "const", "none"):
        raise ValueError(f"{layer}: noise is {noise!r}, expected random, const or none")
    if noise == "none":
        return None
    image = x.shape[2] * up, x.shape[3] * up
    if constant is None and noise == "const":
        raise ValueError(f"{layer}: noise is 'const', but the layer was built without a size: expected random or none")
    if constant is not None and constant.shape != image:
        expected = ", ".join(str(n // up) for n in constant.shape)
        raise ValueError(
            f"{layer}: x has shape {list(x.shape)}, expected [batch, channels, {expected}] for the layer's noise"
        )
    if noise == "const":
        return constant
    return torch.randn(x.shape[0], 1, *image, dtype=torch.float32, device=x.device)


def check_image_size(layer: str, size: tuple[int, int], up: int = 1) -> None:
    """Raises ValueError unless `size` is a height and a width, multiples of `up`."""
    whole = isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n >= 1 for n in size)
    if not whole or any(n % up for n in size):
        multiples = "" if up == 1 else f", multiples of up = {up}"
        raise ValueError(f"{layer}: size is {size!r}, expected height and width, integers of at least 1{multiples}")
