"""Batch norm with separate statistics for the real and for the fake batch, and one weight and bias for both."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgan.ops.checks import check_count, check_number, check_shape


class SplitBatchNorm2d(nn.Module):
    """torch.nn.BatchNorm2d with two sets of moving averages: one for real samples, one for generated ones.

    A critic with batch norm is fed real and generated samples in batches apart, so that in training each is normalised
    by its own statistics. One set of moving averages would mix the two, and in evaluation fit neither. Here

        critic(real)
        with fake_statistics(critic):
            critic(fake)

    A layer uses the real statistics except inside `fake_statistics`, in training (which moves them) and in evaluation
    alike. Two batches in one call are normalised together, as always. Ioffe and Szegedy 2015, arXiv:1502.03167,
    algorithms 1 and 2; real and fake apart as Chintala et al. 2016, "How to train a GAN?", advise.

    Args:
        num_features: C.
        eps: added to the variance, above 0.
        momentum: of the moving averages.
        affine: whether there are a weight and a bias, [C], at first 1 and 0.

    Buffers:
        running_mean, running_var: [2, C], of real samples and of generated ones; the variance unbiased, as torch's.

    Shape: [B, C, H, W] -> the same, of the same dtype. Half precision has its statistics computed in float32.

    Raises:
        TypeError: in forward, x is no floating-point tensor.
        ValueError: an argument is out of its range; in forward, x has another shape, or one value per channel in
            training.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        check_count("SplitBatchNorm2d", "num_features", num_features)
        check_number("SplitBatchNorm2d", "eps", eps, above=True)
        check_number("SplitBatchNorm2d", "momentum", momentum)
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(2, num_features))
        self.register_buffer("running_var", torch.ones(2, num_features))
        self._row = 0

    def forward(self, x: Tensor) -> Tensor:
        check_shape("SplitBatchNorm2d", "x", x, ["batch", self.num_features, "height", "width"])
        mean, var = self.running_mean[self._row], self.running_var[self._row]
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


@contextmanager
def fake_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, every `SplitBatchNorm2d` of the network uses and moves the statistics of generated samples.

    Of this network alone; may be nested.

    Raises:
        ValueError: the network has no such layer.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, SplitBatchNorm2d)]
    if not layers:
        raise ValueError("fake_statistics: network has no SplitBatchNorm2d, expected at least one")
    before = [layer._row for layer in layers]
    for layer in layers:
        layer._row = 1
    try:
        yield
    finally:
        for layer, row in zip(layers, before, strict=True):
            layer._row = row
