"""upfirdn2d: upsample, FIR-filter and downsample images in one pass over memory.

Eager PyTorch writes the image with zeros in between, writes it again with a border, and convolves the zeros as well.
The operation is linear and its transpose is itself with other arguments, so that every derivative is one more call, and
nothing of the size of an image is kept for the backward pass.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import allocation, backends
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.layout import dense, empty_image
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.resample_filter import (
    Padding,
    Pair,
    Sides,
    check_filter,
    downsampling_padding,
    filter_size,
    parse_padding,
    parse_rate,
    setup_filter,
    upsampling_padding,
)
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


class Config(NamedTuple):
    """How x becomes y, their sizes apart."""

    up: Pair
    down: Pair
    origin: Pair
    """Where the first pixel of x comes to lie in the padded image: the padding at the left and at the top."""
    flip: bool
    gain: float
    backend: str

    def transposed(self, f: Tensor | None) -> "Config":
        """The same for the gradient: from the cotangent of y to that of x."""
        (width, height), (x, y) = filter_size(f), self.origin
        return self._replace(up=self.down, down=self.up, origin=(width - 1 - x, height - 1 - y), flip=not self.flip)


def upfirdn2d(
    x: Tensor,  # [B, C, H, W]
    f: Tensor | None = None,  # [fh, fw] or [n]
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:  # [B, C, OH, OW]
    """Upsamples, pads or crops, filters and downsamples each channel of a batch of images.

    1. Inserts up - 1 zeros after every pixel, in both directions: the width becomes W * up.
    2. Pads with zeros, or crops where the padding is negative.
    3. Convolves with f and multiplies by the gain; only where the filter lies inside the image.
    4. Keeps every down-th pixel, from the first.

    So OW = (W * up + x0 + x1 - fw) // down + 1. The signature and its meaning are those that users of StyleGAN know
    (Karras et al. 2019, Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958, section 4).
    Differentiable to any order with respect to x.

    Args:
        x: float32, float64, float16 or bfloat16, contiguous or channels_last without a copy.
        f: float32; [fh, fw], or [n] for a separable filter, which is applied in both directions; None for the identity.
            `setup_filter` makes one. On the CPU a filter [fh, fw] that is an outer product is as fast as a separable.
        up: the upsampling rate, one for both directions or (x, y).
        down: the downsampling rate, likewise.
        padding: all four sides, (x, y) or (x0, x1, y0, y1): left, right, top, bottom, in pixels of the upsampled image.
        flip_filter: correlate with f as it is instead of convolving.
        gain: scale of the result; once, also where f is applied twice.

    Returns:
        A tensor in the dtype and memory format of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: x is not a floating tensor, or f not a float32 one.
        ValueError: an argument has a wrong shape, device or range, f requires a gradient, or the result would have no
            pixels.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    op = "upfirdn2d"
    _check(op, x, f)
    rates = parse_rate(op, "up", up), parse_rate(op, "down", down)
    return _resampled(op, x, f, rates, parse_padding(op, padding), padding, flip_filter, gain)


def _check(op: str, x: Any, f: Any) -> None:
    check_floating(op, "x", x)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    check_filter(op, f, x.device)


def _resampled(
    op: str, x: Tensor, f: Tensor | None, rates: tuple[Pair, Pair], sides: Sides, padding: Padding, flip_filter: bool,
    gain: float,
) -> Tensor:  # fmt: skip
    """What all four functions do to checked arguments; messages name `op` and the padding that it was given."""
    if f is not None:
        f = f.float()  # a network's buffers follow it into float64 or half precision
    up, down = rates
    size = _output_size(x, f, up, down, sides)
    if min(size) < 1:
        raise ValueError(
            f"{op}: padding is {padding!r}, expected at least the filter's size, {list(filter_size(f)[::-1])}, to "
            f"be left of an image of {list(x.shape[2:])} pixels upsampled by {up}"
        )
    backend = backends.select("upfirdn2d", x)
    if backend == "reference":
        return upfirdn2d_reference(x, f, up, down, sides, flip_filter, gain)
    config = Config(up, down, (sides[0], sides[2]), bool(flip_filter), float(gain), backend)
    return _Upfirdn2d.apply(x, f, config, size)


def filter2d(x: Tensor, f: Tensor | None, padding: Padding = 0, flip_filter: bool = False, gain: float = 1) -> Tensor:
    """Filters each channel; without `padding` the size stays the same.

    An even number of taps needs one zero more on one side than on the other: this puts it in front. Arguments and
    errors as `upfirdn2d`.
    """
    _check("filter2d", x, f)
    (width, height), (x0, x1, y0, y1) = filter_size(f), parse_padding("filter2d", padding)
    sides = (x0 + width // 2, x1 + (width - 1) // 2, y0 + height // 2, y1 + (height - 1) // 2)
    return _resampled("filter2d", x, f, ((1, 1), (1, 1)), sides, padding, flip_filter, gain)


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Upsamples each channel; without `padding` the size becomes [H * up, W * up].

    The gain is multiplied by the rates, so that a normalised filter keeps the mean. Otherwise as `upfirdn2d`.
    """
    _check("upsample2d", x, f)
    ux, uy = rate = parse_rate("upsample2d", "up", up)
    sides = upsampling_padding(f, rate, parse_padding("upsample2d", padding))
    return _resampled("upsample2d", x, f, (rate, (1, 1)), sides, padding, flip_filter, gain * ux * uy)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    down: int | Sequence[int] = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Downsamples each channel; without `padding` the size becomes [H / down, W / down], rounded down.

    Arguments and errors as `upfirdn2d`.
    """
    _check("downsample2d", x, f)
    rate = parse_rate("downsample2d", "down", down)
    sides = downsampling_padding(f, rate, parse_padding("downsample2d", padding))
    return _resampled("downsample2d", x, f, ((1, 1), rate), sides, padding, flip_filter, gain)


def _output_size(x: Tensor, f: Tensor | None, up: Pair, down: Pair, sides: Sequence[int]) -> Pair:
    (fw, fh), (x0, x1, y0, y1) = filter_size(f), sides
    _, _, H, W = x.shape
    return (W * up[0] + x0 + x1 - fw) // down[0] + 1, (H * up[1] + y0 + y1 - fh) // down[1] + 1


def upfirdn2d_reference(
    x: Tensor,
    f: Tensor | None = None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """`upfirdn2d` in plain PyTorch, step by step: the oracle, the fallback and what the benchmarks call eager."""
    up, down = parse_rate("upfirdn2d", "up", up), parse_rate("upfirdn2d", "down", down)
    x0, x1, y0, y1 = parse_padding("upfirdn2d", padding)
    B, C, H, W = x.shape
    if up != (1, 1):
        x = F.pad(x.reshape(B, C, H, 1, W, 1), (0, up[0] - 1, 0, 0, 0, up[1] - 1)).reshape(B, C, H * up[1], W * up[0])
    x = F.pad(x, [max(side, 0) for side in (x0, x1, y0, y1)])
    x = x[:, :, max(-y0, 0) : x.shape[2] - max(-y1, 0), max(-x0, 0) : x.shape[3] - max(-x1, 0)]
    if C == 1:
        # Strides of one channel may look like channels_last, for which torch 2.13's oneDNN convolves wrongly (18 x 7
        # pixels by 6 x 6 taps with stride (1, 2) on AVX-512): these are the strides of a contiguous image.
        x = x.contiguous().reshape(x.shape)
    if f is None:
        f = x.new_ones(1, 1)
    f = f.to(x.dtype) if flip_filter else f.to(x.dtype).flip(list(range(f.ndim)))
    if f.ndim == 2:
        weight = (f * gain).expand(C, 1, *f.shape)
        return F.conv2d(x, weight, stride=(down[1], down[0]), groups=C)
    x = F.conv2d(x, f[None, :].expand(C, 1, 1, -1), stride=(1, down[0]), groups=C)
    return F.conv2d(x, (f * gain)[:, None].expand(C, 1, -1, 1), stride=(down[1], 1), groups=C)


# --- the differentiable function ----------------------------------------------------------------------------------


class _Upfirdn2d(torch.autograd.Function):
    """y = A x; the gradient is A' dy, by the same function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor | None, config: Config, size: Pair) -> Tensor:
        ctx.save_for_backward(f)
        ctx.config, ctx.size = config, (x.shape[3], x.shape[2])
        return _op(x, f, *config, size)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        (f,) = ctx.saved_tensors
        config = ctx.config.transposed(f)
        if torch.is_grad_enabled():  # create_graph=True; otherwise nobody will differentiate dx
            return _Upfirdn2d.apply(dy, f, config, ctx.size), None, None, None
        return _op(dy, f, *config, ctx.size), None, None, None


# --- the private operator, opaque to torch.compile ------------------------------------------------------------------


def _resample(
    x: Tensor, f: Tensor | None, up: Pair, down: Pair, origin: Pair, flip: bool, gain: float, backend: str, size: Pair
) -> Tensor:
    x = dense(x)
    f = x.new_ones((1, 1), dtype=torch.float32) if f is None else f.contiguous()
    y = empty_image(x.shape[1], size[1], size[0], order=x)
    width, height = filter_size(f)
    args = extension().Upfirdn2dArgs(
        tuple(x.shape), tuple(y.shape[2:]), (height, width), f.ndim == 1, tuple(up), tuple(down), tuple(origin),
        flip, gain, not x.is_contiguous(), DTYPE_CODES[x.dtype],
    )  # fmt: skip
    device = CPU if backend == "cpu" else x.device
    addresses = (
        address(x, x.dtype, x.numel(), device),
        address(f, torch.float32, width if f.ndim == 1 else height * width, device),
        address(y, x.dtype, x.shape[0] * x.shape[1] * size[0] * size[1], device),
    )
    if backend == "cpu":
        extension().upfirdn2d(*addresses, args, torch.get_num_threads())
        return y
    elements = extension().upfirdn2d_scratch(args)
    scratch = allocation.empty((elements,), like=x, dtype=compute_dtype(x)) if elements else None
    room = address(scratch, compute_dtype(x), elements, device)
    with torch.cuda.device(x.device):
        stream = torch.cuda.current_stream().cuda_stream
        extension().upfirdn2d_cuda(*addresses, args, room, stream)
    return y


_op = define(
    "upfirdn2d(Tensor x, Tensor? f, int[2] up, int[2] down, int[2] origin, bool flip, float gain, str backend, "
    "SymInt[2] size) -> Tensor",
    _resample,
    lambda x, f, up, down, origin, flip, gain, backend, size: empty_image(x.shape[1], size[1], size[0], order=dense(x)),
)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    # Pixels and taps are positive: no sum cancels, so that a relative error can be asked for.
    def taps(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator, dtype=torch.float32) + 0.1).to(device)

    def sample(shape: tuple[int, ...], label: str, f: Tensor | None, **kwargs: Any) -> Sample:
        x = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
        return Sample((x.to(device, dtype),), {"f": f, **kwargs}, label=label)

    binomial = setup_filter([1, 3, 3, 1], device)
    outer = torch.outer(taps(3), taps(5))
    yield sample((2, 3, 7, 9), "blur", binomial, padding=(2, 1, 2, 1))
    yield sample((2, 2, 5, 6), "up", binomial, up=2, padding=(2, 1, 2, 1), gain=4)
    yield sample((2, 2, 8, 7), "down", binomial, down=2, padding=1)
    yield sample((2, 3, 4, 5), "not-separable", taps(3, 5), up=(3, 1), down=(2, 3), padding=(3, 1), flip_filter=True)
    yield sample((2, 3, 5, 4), "one-dim", taps(6), up=2, down=3, padding=(4, 5, 2, 7), gain=0.7)
    yield sample((2, 5, 4, 6), "channels-last", outer, up=(1, 2), padding=2).map(_channels_last)
    yield sample((2, 5, 6, 7), "channels-last-down", binomial, down=2, padding=1).map(_channels_last)
    yield sample((2, 3, 4, 4), "channels-last-not-separable", taps(2, 3), down=(1, 2)).map(_channels_last)
    yield sample((1, 2, 5, 6), "outer-product", outer, flip_filter=True, padding=(0, 3, -1, 2), gain=1.7)
    yield sample((2, 2, 6, 9), "cropped", taps(2, 2), up=2, padding=(-3, 1, 2, -4))
    yield sample((2, 2, 3, 2), "filter-beyond-image", taps(9), padding=(5, 4, 3, 6))
    yield sample((1, 2, 3, 2), "large-not-separable", taps(6, 7), up=2, padding=(5, 4))
    yield sample((2, 2, 1, 1), "one-pixel", binomial, up=2, padding=(2, 1, 2, 1))
    yield sample((2, 2, 3, 4), "no-filter", None, up=(2, 3), padding=(1, 0), gain=3)
    yield sample((2, 3, 4, 10), "strided", binomial, padding=2).map(lambda t: t[..., ::2])
    yield sample((5, 3, 4, 6), "transposed", binomial, padding=2).map(lambda t: t.transpose(2, 3))
    yield sample((0, 3, 4, 5), "empty-batch", binomial, up=2, padding=2)
    yield sample((1, 2, 40, 75), "vectors", binomial, padding=(2, 1, 2, 1))
    yield sample((2, 1, 33, 67), "vectors-up", taps(12), up=2, padding=6)
    yield sample((1, 1, 36, 140), "vectors-down", taps(5), down=2)
    yield sample((1, 1, 60, 41), "vectors-not-separable", taps(5, 3), padding=2)
    yield sample((1, 1, 140, 150), "several-items", binomial, padding=2)
    yield sample((1, 20, 5, 6), "wide-pixels", taps(3, 2), down=(2, 1), padding=1).map(_channels_last)
    yield sample((2, 20, 4, 5), "wide-pixels-up", outer, up=(3, 2), down=(1, 3), padding=3).map(_channels_last)
    yield sample((5, 900, 2, 2), "many-small", binomial, padding=(2, 1, 2, 1))
    yield sample((3, 400, 4, 5), "many-small-up", binomial, up=2, padding=(2, 1, 2, 1))
    yield sample((1, 256, 3, 20), "channel-blocks", binomial, up=2, padding=2).map(_channels_last)


def _channels_last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last)


def bench_shape(what: str, B: int, C: int, size: int) -> BenchShape:
    """StyleGAN2's filter: "blur", or "up" or "down" by 2."""
    up, down = 2 if what == "up" else 1, 2 if what == "down" else 1
    out = size * up // down
    kwargs = {"up": up, "down": down, "padding": (1, 1) if what == "down" else (2, 1, 2, 1), "gain": up**2}

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        x = torch.randn(B, C, size, size, device=device, dtype=dtype)
        return Sample((x,), {"f": setup_filter([1, 3, 3, 1], device), **kwargs}, label=what)

    # Columns, then rows: 4 / up taps that do not meet inserted zeros.
    operations = 2 * (4 // up) * B * C * (out * size + out * out)
    return BenchShape(f"{what} {B}x{C}x{size}x{size}", make, lambda item: item * B * C * (size**2 + out**2), operations)


SPEC = register(
    OpSpec(
        name="upfirdn2d",
        function=upfirdn2d,
        reference=upfirdn2d_reference,
        backends={"cpu": FLOATING, "cuda": FLOATING},
        order=None,
        samples=_samples,
        bench=tuple(
            bench_shape(what, *shape)
            for what in ("blur", "up", "down")
            for shape in ((16, 64, 32), (8, 64, 64), (4, 32, 128))
        ),
        paper="Karras et al. 2019, Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958",
    )
)
