"""Fréchet and kernel distance between two sets of images, given a network's features of them."""

import math
import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from fastgan.metrics.checks import check_set
from fastgan.metrics.kernel_variance import kernel_distance_variance
from fastgan.ops._common.checks import check_count

SUBSET_SIZE = 500


class _Features(nn.Module):
    """The identity in the place of torchmetrics' feature network: the inputs are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """The squared Fréchet distance between two Gaussians fitted to features (FID, on the features of any network).

        ||m_r - m_f||^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))

    It is biased upwards, the more so the fewer images there are: compare only figures of equal sizes.

    Args:
        real, fake: floating point [N, F] and [M, F], N and M at least 2.

    Raises:
        TypeError, ValueError: the features have another type or shape, are too few or not finite.

    Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    check_set("frechet_distance", "real", real, ("F",), 2)
    check_set("frechet_distance", "fake", fake, real.shape[1:], 2)
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    # It computes in float64, and would round the result to the type of the features.
    metric.update(real.detach().double(), real=True)
    metric.update(fake.detach().double(), real=False)
    return metric.compute().item()


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = 100, seed: int = 0) -> tuple[float, float]:
    """The unbiased squared MMD with the kernel (x·y / F + 1)^3, on subsets of 500 (KID, on any features).

    Args:
        real, fake: floating point [N, F] and [M, F], N and M at least 500.
        subsets: how many random subsets, at least 2.
        seed: of the subsets.

    Returns:
        The mean over the subsets, about 0 for two samples of one distribution and maybe below, and its standard error
        for the choice of the N and M points and of the subsets. Where the distributions agree, that is on average
        about a fifth too large.

    Raises:
        TypeError, ValueError: the features have another type or shape, are too few or not finite, or there are too few
            subsets.

    Bińkowski et al. 2018, arXiv:1801.01401.
    """
    check_set("kernel_distance", "real", real, ("F",), SUBSET_SIZE)
    check_set("kernel_distance", "fake", fake, real.shape[1:], SUBSET_SIZE)
    check_count("kernel_distance", "subsets", subsets)
    if subsets < 2:
        raise ValueError(f"kernel_distance: subsets is {subsets}, expected at least 2")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(feature=_Features(real.shape[1]), subsets=subsets, subset_size=SUBSET_SIZE)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    # torchmetrics draws the subsets from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, deviation = metric.compute()
    # Given the points, the mean over all subsets is the estimate from all points, and these subsets scatter about it.
    of_subsets = deviation.item() ** 2 / (subsets - 1)
    return mean.item(), math.sqrt(kernel_distance_variance(real, fake) + of_subsets)
