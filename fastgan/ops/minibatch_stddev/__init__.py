"""minibatch_stddev: the deviation of the samples of a batch from each other, as further channels of each of them.

The eager composition passes over the activations a dozen times in forward and backward, and as often again in the
double backward that every R1 step of a StyleGAN2 critic makes. The kernels read them once for each of the three.
"""

from typing import Any

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.checks import check_floating
from fastgan.ops.minibatch_stddev.autograd import MinibatchStddev
from fastgan.ops.minibatch_stddev.reference import minibatch_stddev_reference


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
    backend = select("minibatch_stddev", x)
    if backend == "reference":
        return minibatch_stddev_reference(x, group_size, num_channels)
    return MinibatchStddev.apply(x, group_size, num_channels, backend)


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
