"""minibatch_stddev: how much the samples of a batch differ from each other, as further channels of each of them.

The eager composition passes over the activations a dozen times in forward and backward, and as often again in the
double backward that every R1 step of a StyleGAN2 critic makes. The kernels read them once for each of the three.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation, backends
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.layout import dense, empty_image
from fastgan.ops._common.partial_gradients import higher_derivatives
from fastgan.ops._common.precision import compute_dtype
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register

EPSILON = 1e-8  # under the root, as in the paper's code: the csrc files have the same


def minibatch_stddev(
    x: Tensor,  # [N, C, H, W]
    group_size: int | None = 4,
    num_channels: int = 1,
) -> Tensor:  # [N, C + num_channels, H, W]
    """Appends to each sample the standard deviation over its group of samples, averaged over channels and pixels.

        y_f = mean over c, h, w of sqrt(mean over i of (x_ifchw - mean over i of x_ifchw)^2 + 1e-8)

    i runs over the samples of a group, f over `num_channels` features, into which the channels are cut; y_f is written
    into every pixel of channel C + f. Karras et al. 2018, Progressive Growing of GANs, section 3; in groups and with
    several features as in StyleGAN2. Differentiable to any order, twice by kernels.

    Any batch size works. There are n = ceil(N / group_size) groups, of samples i, i + n, i + 2n, ...: for a multiple of
    `group_size` they are StyleGAN2's, otherwise their sizes differ by at most one. A sample alone would have no
    deviation at all, which a critic sees at once; so with pairs and an odd batch one group has three samples.

    Args:
        x: float32, float64, float16 or bfloat16, contiguous or channels_last without a copy. The arithmetic is float32
            (float64 for float64), sums over many samples or positions are float64.
        group_size: samples of a group, at least 1; None, or more than N, for the whole batch.
        num_channels: how many channels are appended, at least 1; C must be a multiple of it.

    Returns:
        A tensor of the dtype and memory format of x.

    Raises:
        TypeError: x is not a floating tensor, or a number is not an integer.
        ValueError: x does not have four dimensions, its channels cannot be cut into `num_channels` equal parts, or a
            number is below 1.
        fastgan.BackendError: a backend was forced that cannot take x.
    """
    _check(x, group_size, num_channels)
    backend = backends.select("minibatch_stddev", x)
    if backend == "reference":
        return minibatch_stddev_reference(x, group_size, num_channels)
    return _MinibatchStdDev.apply(x, group_size, num_channels, backend)


def check_sizes(name: str, group_size: Any, num_channels: Any) -> None:
    """Raises TypeError or ValueError, in the name of a function or layer, for what can never be right."""
    for argument, value in (("group_size", group_size), ("num_channels", num_channels)):
        orders = " or None" if argument == "group_size" else ""
        if value is None and orders:
            continue
        if not isinstance(value, int):
            raise TypeError(f"{name}: {argument} is {value!r}, expected an integer{orders}")
        if value < 1:
            raise ValueError(f"{name}: {argument} is {value}, expected at least 1{orders}")


def _check(x: Any, group_size: Any, num_channels: Any) -> None:
    check_floating("minibatch_stddev", "x", x)
    if x.ndim != 4:
        raise ValueError(f"minibatch_stddev: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    check_sizes("minibatch_stddev", group_size, num_channels)
    if x.shape[1] % num_channels != 0 or x.shape[1] == 0:
        raise ValueError(
            f"minibatch_stddev: x has {x.shape[1]} channels, expected a multiple of num_channels, {num_channels}"
        )


def count_groups(batch: int, group_size: int | None) -> int:
    """Into how many groups a batch falls; sample i belongs to group i modulo this number."""
    if group_size is None:
        return min(batch, 1)
    if group_size == 1 or batch < 2:
        return batch
    return min(-(-batch // group_size), batch // 2)  # the latter is less where pairs would leave one sample alone


def minibatch_stddev_reference(x: Tensor, group_size: int | None = 4, num_channels: int = 1) -> Tensor:
    """The same in plain PyTorch, as it is usually written; half types in float32, which 1e-8 needs."""
    N, C, H, W = x.shape
    n = count_groups(N, group_size)
    if n == 0:
        return torch.cat([x, x.new_empty(0, num_channels, H, W)], 1)
    wide = x.to(compute_dtype(x))
    if N % n == 0:
        y = _statistic(wide.reshape(N // n, n, num_channels, C // num_channels * H * W))
    else:
        groups = [wide[j::n].reshape(-1, 1, num_channels, C // num_channels * H * W) for j in range(n)]
        y = torch.cat([_statistic(group) for group in groups])
    of_sample = y.to(x.dtype).repeat(-(-N // n), 1)[:N]
    return torch.cat([x, of_sample[:, :, None, None].expand(N, num_channels, H, W)], 1)


def _statistic(x: Tensor) -> Tensor:  # [members, groups, features, positions] -> [groups, features]
    return (x - x.mean(0)).square().mean(0).add(EPSILON).sqrt().mean(2)


# --- differentiable functions -------------------------------------------------------------------------------------


class _MinibatchStdDev(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.config = group_size, num_channels, backend
        return _op(x, group_size, num_channels, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
        gradient = _MinibatchStdDevGrad.apply if torch.is_grad_enabled() else _op_grad
        return gradient(g, x, *ctx.config), None, None, None


class _MinibatchStdDevGrad(torch.autograd.Function):
    """dx = g + a u, u the deviations in units of the standard deviation (csrc/minibatch_stddev.h)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.config = group_size, num_channels, backend
        return _op_grad(g, x, group_size, num_channels, backend)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        grad_g, grad_x = _MinibatchStdDevGrad2.apply(v, *ctx.saved_tensors, *ctx.config)
        return grad_g, grad_x, None, None, None


class _MinibatchStdDevGrad2(torch.autograd.Function):
    """The cotangents of g and x for a cotangent v of dx."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(v, g, x)
        ctx.sizes = group_size, num_channels
        ctx.set_materialize_grads(False)
        return _op_grad2(v, g, x, group_size, num_channels, backend)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        of_g, of_x = cotangents
        reference = lambda x: minibatch_stddev_reference(x, *ctx.sizes)  # noqa: E731
        return *higher_derivatives(ctx, reference, (of_g, of_x)), None, None, None


# --- private operators, opaque to torch.compile ---------------------------------------------------------------------


def _forward(x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
    x = dense(x)
    o = _extended(x, num_channels)
    _call("minibatch_stddev", backend, x, group_size, num_channels, (x, o))
    return o


def _grad(g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
    x = dense(x)
    g, dx = _in_order(g, x), allocation.empty_like(x)
    _call("minibatch_stddev_grad", backend, x, group_size, num_channels, (g, x, dx))
    return dx


def _grad2(
    v: Tensor, g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str
) -> tuple[Tensor, Tensor]:
    x = dense(x)
    v, g = _in_order(v, x), _in_order(g, x)
    grad_g, grad_x = allocation.empty_like(g), allocation.empty_like(x)
    _call("minibatch_stddev_grad2", backend, x, group_size, num_channels, (v, g, x, grad_g, grad_x))
    return grad_g, grad_x


def _extended(x: Tensor, num_channels: int) -> Tensor:
    """Room for x and the channels behind it."""
    return empty_image(x.shape[1] + num_channels, x.shape[2], x.shape[3], order=x)


def _in_order(t: Tensor, x: Tensor) -> Tensor:
    """t, of any number of channels, in the memory order of the dense tensor x."""
    return t.contiguous(memory_format=torch.contiguous_format if x.is_contiguous() else torch.channels_last)


_EXTENDED = {"minibatch_stddev": (1,), "minibatch_stddev_grad": (0,), "minibatch_stddev_grad2": (1, 3)}
"""Which of a function's tensors have the statistics' channels besides those of x."""


def _call(
    name: str, backend: str, x: Tensor, group_size: int | None, num_channels: int, tensors: tuple[Tensor, ...]
) -> None:
    """Calls csrc/minibatch_stddev.cpp or .cu with addresses; the outputs come last in `tensors`."""
    N, C, H, W = x.shape
    segments, pixels = (1, H * W) if x.is_contiguous() else (H * W, 1)
    sizes = N, count_groups(N, group_size), num_channels, segments, C // num_channels * pixels, pixels
    args = extension().MinibatchStddevArgs(*sizes, DTYPE_CODES[x.dtype], torch.get_num_threads())
    device = CPU if backend == "cpu" else x.device
    counts = N * C * H * W, N * (C + num_channels) * H * W
    addresses = [address(t, x.dtype, counts[i in _EXTENDED[name]], device) for i, t in enumerate(tensors)]
    if backend == "cpu":
        getattr(extension(), name)(*addresses, args)
        return
    with torch.cuda.device(x.device):
        if name != "minibatch_stddev_grad":  # whose blocks leave nothing to be added up
            count = extension().minibatch_stddev_parts(args)
            parts = allocation.empty((count,), like=x, dtype=torch.float64)
            addresses.append(address(parts, torch.float64, count, device))
        stream = torch.cuda.current_stream().cuda_stream
        getattr(extension(), f"{name}_cuda")(*addresses, args, stream)


def _fake_like(t: Tensor, x: Tensor) -> Tensor:
    """Uninitialised memory for t, in the memory order that goes with x."""
    return torch.empty_like(_in_order(t, dense(x)))


_CONFIG = "int? group_size, int num_channels, str backend"
_op = define(
    f"minibatch_stddev(Tensor x, {_CONFIG}) -> Tensor",
    _forward,
    lambda x, group_size, num_channels, backend: _extended(dense(x), num_channels),
)
_op_grad = define(
    f"minibatch_stddev_grad(Tensor g, Tensor x, {_CONFIG}) -> Tensor",
    _grad,
    lambda g, x, *config: _fake_like(x, x),
)
_op_grad2 = define(
    f"minibatch_stddev_grad2(Tensor v, Tensor g, Tensor x, {_CONFIG}) -> (Tensor, Tensor)",
    _grad2,
    lambda v, g, x, *config: (_fake_like(g, x), _fake_like(x, x)),
)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(shape: tuple[int, ...], label: str, group_size: int | None, num_channels: int = 1) -> Sample:
        # In every position the samples are a shuffled grid of spacing 1, jittered by a quarter of it: no two are close,
        # so that no standard deviation is near 0, where the square root bends.
        order = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(0)
        jitter = 0.5 * torch.rand(shape, generator=generator, dtype=torch.float64)
        x = (order + jitter - shape[0] / 2).to(device, dtype)
        return Sample((x,), {"group_size": group_size, "num_channels": num_channels}, label)

    yield sample((4, 3, 3, 3), "one-group", 4)
    yield sample((8, 6, 2, 3), "two-groups-two-features", 4, 2)
    yield sample((7, 4, 2, 3), "unequal-groups", 3, 4)
    yield sample((5, 3, 2, 2), "pairs-of-an-odd-batch", 2)
    yield sample((3, 2, 3, 5), "whole-batch", None)
    yield sample((6, 4, 3, 2), "channels-last", 3, 2).map(lambda x: x.to(memory_format=torch.channels_last))
    yield sample((6, 3, 4, 6), "strided", 4).map(lambda x: x[..., ::2])
    yield sample((4, 5, 2, 3), "transposed", 4).map(lambda x: x.transpose(0, 2).contiguous().transpose(0, 2))
    yield sample((21, 2, 9, 16), "long-sums", None, 2)
    yield sample((8, 70, 9, 4), "several-blocks", 4)
    yield sample((4, 300, 2, 3), "channels-last-tiles", 4, 2).map(lambda x: x.to(memory_format=torch.channels_last))
    yield sample((4, 1100, 1, 2), "channels-last-blocks", 2).map(lambda x: x.to(memory_format=torch.channels_last))
    yield sample((1, 2, 3, 3), "one-sample", 4)
    yield sample((3, 2, 2, 2), "groups-of-one", 1)
    yield sample((0, 4, 3, 3), "empty-batch", 4)
    yield sample((3, 4, 0, 3), "no-pixels", 4)


def bench_shape(shape: tuple[int, int, int, int], group_size: int | None) -> BenchShape:
    label = f"{'x'.join(map(str, shape))} {'whole batch' if group_size is None else f'groups of {group_size}'}"

    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        return Sample((torch.randn(shape, device=device, dtype=dtype),), {"group_size": group_size}, label)

    N, C, H, W = shape
    written = N * (C + 1) * H * W
    # For each element: two additions for the mean and the deviation, a square and its addition.
    return BenchShape(label, make, lambda size: size * (math.prod(shape) + written), 4 * math.prod(shape))


SPEC = register(
    OpSpec(
        name="minibatch_stddev",
        function=minibatch_stddev,
        reference=minibatch_stddev_reference,
        backends={"cuda": FLOATING, "cpu": FLOATING},
        order=None,
        samples=_samples,
        bench=(
            bench_shape((32, 512, 4, 4), 4),
            bench_shape((64, 512, 4, 4), 4),
            bench_shape((16, 256, 8, 8), 4),
            bench_shape((64, 128, 8, 8), None),
        ),
        paper="Karras et al. 2018, Progressive Growing of GANs, section 3",
    )
)
