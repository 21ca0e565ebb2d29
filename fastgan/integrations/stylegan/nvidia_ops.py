"""The functions of stylegan2-ada-pytorch and stylegan3 by fastgan's ops, with their names, order and defaults.

Each entry of `MODULES` makes the replacement of one function from its `Fallback`. `impl`, which chose between their
kernel and plain PyTorch, and `fused_modconv` have nothing to choose here and are ignored: `fastgan.backend` chooses.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan import ops
from fastgan.integrations.stylegan.fallback import Fallback, kind
from fastgan.ops import convolution
from fastgan.ops._common.activations import ACTIVATIONS

Sizes = int | Sequence[int]
_FLOATING = "floating-point tensors"


def make_bias_act(fallback: Fallback) -> Callable[..., Tensor]:
    def bias_act(
        x: Tensor, b: Tensor | None = None, dim: int = 1, act: str = "linear", alpha: float | None = None,
        gain: float | None = None, clamp: float | None = None, impl: str = "cuda",
    ) -> Tensor:  # fmt: skip
        arguments = (x, b, dim, act, alpha, gain, clamp)
        if not _floating(x):
            return fallback("x", kind(x), _FLOATING)(*arguments)
        if act not in ACTIVATIONS:
            return fallback("act", repr(act), ", ".join(ACTIVATIONS))(*arguments)
        if ACTIVATIONS[act].default_alpha is None:
            alpha = None  # which theirs ignore
        elif alpha is not None and alpha < 0:
            return fallback("alpha", alpha, "slopes >= 0")(*arguments)
        return ops.bias_act(x, b, dim, act, alpha, gain, clamp)

    return bias_act


def make_setup_filter(fallback: Fallback) -> Callable[..., Tensor]:
    def setup_filter(
        f: Any, device: torch.device = torch.device("cpu"), normalize: bool = True, flip_filter: bool = False,  # noqa: B008
        gain: float = 1, separable: bool | None = None,
    ) -> Tensor:  # fmt: skip
        return ops.setup_filter(f, device, normalize, flip_filter, gain, separable)

    return setup_filter


def make_upfirdn2d(fallback: Fallback) -> Callable[..., Tensor]:
    def upfirdn2d(
        x: Tensor, f: Tensor | None, up: Sizes = 1, down: Sizes = 1, padding: Sizes = 0, flip_filter: bool = False,
        gain: float = 1, impl: str = "cuda",
    ) -> Tensor:  # fmt: skip
        function = _resampling(fallback, x, f) or ops.upfirdn2d
        return function(x, f, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=gain)

    return upfirdn2d


def make_filter2d(fallback: Fallback) -> Callable[..., Tensor]:
    def filter2d(
        x: Tensor, f: Tensor | None, padding: Sizes = 0, flip_filter: bool = False, gain: float = 1, impl: str = "cuda"
    ) -> Tensor:
        function = _resampling(fallback, x, f) or ops.filter2d
        return function(x, f, padding=padding, flip_filter=flip_filter, gain=gain)

    return filter2d


def make_upsample2d(fallback: Fallback) -> Callable[..., Tensor]:
    def upsample2d(
        x: Tensor, f: Tensor | None, up: Sizes = 2, padding: Sizes = 0, flip_filter: bool = False, gain: float = 1,
        impl: str = "cuda",
    ) -> Tensor:  # fmt: skip
        function = _resampling(fallback, x, f) or ops.upsample2d
        return function(x, f, up=up, padding=padding, flip_filter=flip_filter, gain=gain)

    return upsample2d


def make_downsample2d(fallback: Fallback) -> Callable[..., Tensor]:
    def downsample2d(
        x: Tensor, f: Tensor | None, down: Sizes = 2, padding: Sizes = 0, flip_filter: bool = False, gain: float = 1,
        impl: str = "cuda",
    ) -> Tensor:  # fmt: skip
        function = _resampling(fallback, x, f) or ops.downsample2d
        return function(x, f, down=down, padding=padding, flip_filter=flip_filter, gain=gain)

    return downsample2d


def make_conv2d_resample(fallback: Fallback) -> Callable[..., Tensor]:
    def conv2d_resample(
        x: Tensor, w: Tensor, f: Tensor | None = None, up: int = 1, down: int = 1, padding: Sizes = 0, groups: int = 1,
        flip_weight: bool = True, flip_filter: bool = False,
    ) -> Tensor:  # fmt: skip
        function = _resampling(fallback, x, f) or ops.conv2d_resample
        return function(
            x, w, f=f, up=up, down=down, padding=padding, groups=groups, flip_weight=flip_weight,
            flip_filter=flip_filter,
        )  # fmt: skip

    return conv2d_resample


def make_conv2d(fallback: Fallback) -> Callable[..., Tensor]:
    def conv2d(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
        dilation: Sizes = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
        return convolution.conv2d(input, weight, bias, stride, padding, dilation, groups)

    return conv2d


def make_conv_transpose2d(fallback: Fallback) -> Callable[..., Tensor]:
    def conv_transpose2d(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
        output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
    ) -> Tensor:  # fmt: skip
        return convolution.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)

    return conv_transpose2d


def make_modulated_conv2d(fallback: Fallback) -> Callable[..., Tensor]:
    def modulated_conv2d(
        x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor | None = None, up: int = 1, down: int = 1,
        padding: Sizes = 0, resample_filter: Tensor | None = None, demodulate: bool = True, flip_weight: bool = True,
        fused_modconv: bool = True,
    ) -> Tensor:  # fmt: skip
        function = _resampling(fallback, x, resample_filter)
        # Theirs broadcasts any noise to the result; ours adds one value to all channels of a pixel.
        if function is None and noise is not None:
            one_channel = noise.ndim == 2 or (noise.ndim == 4 and noise.shape[1] == 1 and noise.shape[0] in (1, len(x)))
            if not one_channel or 1 in noise.shape[-2:]:
                expected = "[height, width] or [1 or batch, 1, height, width] of more than one pixel in each direction"
                function = fallback("noise", f"of shape {list(noise.shape)}", expected)
        if function is None:
            function = ops.modulated_conv2d
        return function(
            x, weight, styles, noise=noise, up=up, down=down, padding=padding, resample_filter=resample_filter,
            demodulate=demodulate, flip_weight=flip_weight,
        )  # fmt: skip

    return modulated_conv2d


def _floating(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _resampling(fallback: Fallback, x: Tensor, f: Tensor | None) -> Callable[..., Tensor] | None:
    """Runs the original where fastgan's ops do not take the image or the filter."""
    if not _floating(x):
        return fallback("x", kind(x), _FLOATING)
    if f is not None and f.requires_grad:
        return fallback("the filter", "a tensor that requires a gradient", "constant filters")
    return None


MODULES: dict[str, dict[str, Callable[[Fallback], Callable[..., Any]] | str]] = {
    "torch_utils.ops.bias_act": {"bias_act": make_bias_act},
    "torch_utils.ops.upfirdn2d": {
        "setup_filter": make_setup_filter,
        "upfirdn2d": make_upfirdn2d,
        "filter2d": make_filter2d,
        "upsample2d": make_upsample2d,
        "downsample2d": make_downsample2d,
    },
    "torch_utils.ops.conv2d_resample": {"conv2d_resample": make_conv2d_resample},
    # no_weight_gradients stays theirs: it sets a flag that only their convolutions read.
    "torch_utils.ops.conv2d_gradfix": {"conv2d": make_conv2d, "conv_transpose2d": make_conv_transpose2d},
    "torch_utils.ops.fma": {"fma": "plain PyTorch, which only their modulated_conv2d calls"},
    "torch_utils.ops.grid_sample_gradfix": {"grid_sample": "plain PyTorch, which compiles nothing"},
    "torch_utils.ops.filtered_lrelu": {
        "filtered_lrelu": "no such op in fastgan: on the CPU it is composed of the others, on a GPU it compiles"
    },
    "training.networks": {"modulated_conv2d": make_modulated_conv2d},
    "training.networks_stylegan2": {"modulated_conv2d": make_modulated_conv2d},
}
"""Module -> name in it -> what makes its replacement, or why it is left."""
