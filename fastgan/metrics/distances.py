"""Distances between two sets of images, given what a network makes of them: their features."""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

SUBSET_SIZE = 500


class _Features(nn.Module):
    """torchmetrics asks for a network that makes features of images; these are features already."""

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

    Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute().item()


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = 100, seed: int = 0) -> tuple[float, float]:
    """The unbiased squared MMD with the kernel (x·y / F + 1)^3, on subsets of 500 (KID, on any features).

    Args:
        real, fake: floating point [N, F] and [M, F], N and M at least 500.
        subsets: how many random subsets.
        seed: of the subsets.

    Returns:
        The mean over the subsets and their standard deviation. The mean is about 0 for two samples of one distribution,
        and may be below.

    Bińkowski et al. 2018, arXiv:1801.01401.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(feature=_Features(real.shape[1]), subsets=subsets, subset_size=SUBSET_SIZE)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    # torchmetrics draws the subsets from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()
