"""Minibatch standard deviation as a layer of the critic."""

from torch import Tensor, nn

from fastgan.ops.minibatch_stddev import check_sizes, minibatch_stddev


class MinibatchStdDev(nn.Module):
    """Appends to each sample's channels how much the samples of its group differ from each other.

    A critic that sees one sample at a time cannot notice that all of them look alike; with these channels it can. In
    Progressive GAN and StyleGAN2 it stands before the last convolution, at 4x4 pixels. It has no parameters.
    Karras et al. 2018, Progressive Growing of GANs, section 3; in groups as in StyleGAN2.

    Args:
        group_size: samples that are compared with each other, at least 1; None for the whole batch. A batch that is no
            multiple of it falls into groups whose sizes differ by at most one (see `fastgan.ops.minibatch_stddev`).
        num_channels: channels that are appended, each for an equal part of the input's channels.

    Shape: [batch, channels, height, width] -> [batch, channels + num_channels, height, width]

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is below 1.
    """

    def __init__(self, group_size: int | None = 4, num_channels: int = 1) -> None:
        super().__init__()
        check_sizes("MinibatchStdDev", group_size, num_channels)
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x: Tensor) -> Tensor:
        return minibatch_stddev(x, self.group_size, self.num_channels)

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}, num_channels={self.num_channels}"
