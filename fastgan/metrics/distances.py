"""Distances between two sets of images in the feature space of a network."""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

SUBSETS = 100
SUBSET_SIZE = 500


def frechet_distance(real: Tensor, fake: Tensor, features: nn.Module) -> float:
    """The squared Fréchet distance between two Gaussians fitted to the features (FID, on any features).

        ||m_r - m_f||^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))

    It is biased upwards, the more so the fewer images there are: compare only figures of equal sizes.

    Args:
        real, fake: images as the network takes them, at least 2 of each.
        features: images -> [B, F]; its attribute `num_features` is F.

    Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    metric = FrechetInceptionDistance(feature=features)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute().item()


def kernel_distance(real: Tensor, fake: Tensor, features: nn.Module) -> tuple[float, float]:
    """The unbiased squared MMD with the kernel (x·y / F + 1)^3, on subsets of 500 (KID, on any features).

    Args:
        real, fake: images as the network takes them, at least 500 of each.
        features: images -> [B, F].

    Returns:
        The mean over 100 random subsets, always the same ones, and its standard deviation. The mean is about 0 for two
        samples of one distribution, and may be below.

    Bińkowski et al. 2018, arXiv:1801.01401.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(feature=features, subsets=SUBSETS, subset_size=SUBSET_SIZE)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    # torchmetrics draws the subsets from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()
