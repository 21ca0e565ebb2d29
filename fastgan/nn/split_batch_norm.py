"""Batch norm with separate statistics for the real and for the fake batch, and one weight and bias for both."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from fastgan.ops._common.checks import check_count, check_number, check_shape


class SplitBatchNorm2d(nn.Module):
    """torch.nn.BatchNorm2d with two sets of moving averages: one for real samples, one for generated ones.

    A critic with batch norm is fed real and generated samples in batches apart, so that in training each is normalised
    by its own statistics. One set of moving averages would mix the two, and in evaluation fit neither. Here

        critic(real)
        with fake_statistics(critic):
            critic(fake)

    A layer uses the real statistics except inside `fake_statistics`, in training (which moves them) and in evaluation
    alike. Two batches in one call are normalised together, as always. `fastgan.critic_loss` and `fastgan train` enter
    the contexts themselves, by `statistics_of`. Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2; real and
    fake apart as Chintala et al. 2016, "How to train a GAN?", advise.

    Args:
        num_features: C.
        eps: added to the variance, above 0.
        momentum: of the moving averages.
        affine: whether there are a weight and a bias, [C], at first 1 and 0.
        device, dtype: of the parameters and buffers, as in torch.nn.

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

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("SplitBatchNorm2d", "num_features", num_features)
        check_number("SplitBatchNorm2d", "eps", eps, above=True)
        check_number("SplitBatchNorm2d", "momentum", momentum)
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        empty = partial(torch.empty, device=device, dtype=dtype)
        self.weight = nn.Parameter(empty(num_features)) if affine else None
        self.bias = nn.Parameter(empty(num_features)) if affine else None
        self.register_buffer("running_mean", empty(2, num_features))
        self.register_buffer("running_var", empty(2, num_features))
        self.reset_parameters()
        self._row = 0
        self._tracks = True  # whether a batch in training moves the averages

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets weight 1 and bias 0, and restarts the moving averages."""
        if self.weight is not None and self.bias is not None:
            self.weight.fill_(1)
            self.bias.zero_()
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        check_shape("SplitBatchNorm2d", "x", x, ["batch", self.num_features, "height", "width"])
        mean: Tensor | None = None
        var: Tensor | None = None
        if self._tracks or not self.training:
            mean, var = self.running_mean[self._row], self.running_var[self._row]
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


def fake_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """A context in which every `SplitBatchNorm2d` of the network uses and updates the statistics of fake samples.

    Of this network alone; may be nested.

    Raises:
        ValueError: the network has no such layer.
    """
    layers = _layers(network)
    if not layers:
        raise ValueError("fake_statistics: network has no SplitBatchNorm2d, expected at least one")
    return _fake(layers)


def statistics_of(at: str, critic: Callable[..., Any]) -> AbstractContextManager[None]:
    """The context in which a critic is called at the points of a loss or penalty; for critics without such layers too.

    Points that are neither data nor samples (WGAN-GP's interpolates, DRAGAN's perturbed data) are normalised in
    training by their own batch, as every batch is, but move no averages, so that these stay what they say they are of.
    In evaluation they are normalised as data, whose labels they have as well.

    Args:
        at: `real`, `fake` or `elsewhere`, as a `fastgan.penalties.Penalty` names its points.
        critic: a module, or a method of one. The layers of another function cannot be found: it may enter
            `fake_statistics` itself.
    """
    network = getattr(critic, "__self__", critic)
    layers = _layers(network) if at != "real" and isinstance(network, nn.Module) else []
    if not layers:
        return nullcontext()
    return _fake(layers) if at == "fake" else _untracked(layers)


def _layers(network: nn.Module) -> list[SplitBatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, SplitBatchNorm2d)]


@contextmanager
def _fake(layers: list[SplitBatchNorm2d]) -> Iterator[None]:
    before = [layer._row for layer in layers]
    for layer in layers:
        layer._row = 1
    try:
        yield
    finally:
        for layer, row in zip(layers, before, strict=True):
            layer._row = row


@contextmanager
def _untracked(layers: list[SplitBatchNorm2d]) -> Iterator[None]:
    before = [layer._tracks for layer in layers]
    for layer in layers:
        layer._tracks = False
    try:
        yield
    finally:
        for layer, tracks in zip(layers, before, strict=True):
            layer._tracks = tracks
