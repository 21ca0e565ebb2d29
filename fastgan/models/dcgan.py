"""The DCGAN pair (Radford et al. 2016, arXiv:1511.06434): strided convolutions, batch norm in the generator.

Convolutions carry no bias: `fastgan.nn.BiasAct` adds it in the same pass as the activation. There are two critics: one
with batch norm, as in the paper, and one without it that ends in minibatch discrimination (Salimans et al. 2016), so
that it notices samples that all look alike.
"""

import torch
from torch import Tensor, nn

from fastgan.models.class_conditional import EMBEDDING_DIM, batch_norm, class_embedding, embedded, sequence
from fastgan.models.headed import BodyAndHead
from fastgan.nn import BiasAct, MinibatchDiscrimination


class DCGANGenerator(nn.Module):
    """Latent vectors to images, doubling the resolution from 4×4 upwards.

    Args:
        latent_dim: numbers in a latent vector.
        channels: of the images.
        resolution: a power of two, at least 8.
        width: channels before the last layer; each lower resolution has twice as many.
        num_classes: of labels, if it is class-conditional: the gains and biases of batch norm depend on the class then.

    Shape: [B, latent_dim], and labels, int64 [B], if there are classes -> [B, channels, resolution, resolution], in
        [-1, 1]
    """

    def __init__(
        self, latent_dim: int, channels: int, resolution: int, width: int, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embed = class_embedding("DCGANGenerator", num_classes)
        class_dim = None if num_classes is None else EMBEDDING_DIM
        times = doublings(resolution)
        wide = width * 2**times
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, wide, 4, bias=False),
            batch_norm(wide, class_dim),
            BiasAct(wide),
        ]
        for _ in range(times):
            layers += [
                nn.ConvTranspose2d(wide, wide // 2, 4, stride=2, padding=1, bias=False),
                batch_norm(wide // 2, class_dim),
                BiasAct(wide // 2),
            ]
            wide //= 2
        layers += [nn.Conv2d(wide, channels, 3, padding=1, bias=False), BiasAct(channels, act="tanh")]
        self.layers = sequence(class_dim, *layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(z, *embedded("DCGANGenerator", self.embed, labels, len(z)))


class DCGANCritic(BodyAndHead):
    """Images to logits, halving the resolution down to 2×2.

    Noise and dropout keep it from memorising a small data set, which would leave the generator without a useful
    gradient. The noise falls on data and samples alike, and blurs the difference between them (instance noise:
    Sønderby et al. 2017, arXiv:1610.04490, section 3.1).

    Args:
        channels, resolution: of the images; the resolution is a power of two, at least 8.
        width: channels of the first layer; each lower resolution has twice as many.
        features: numbers that describe an image before the minibatch discrimination.
        similarities, kernel_dims: the minibatch discrimination's B and C.
        dropout: share of the activations dropped after each strided convolution.
        noise: standard deviation of the Gaussian noise on its input, in training only.
        outputs: numbers that it gives for an image: a logit, or features.

    Shape: [B, channels, resolution, resolution] -> [B, outputs]
    """

    def __init__(
        self,
        channels: int,
        resolution: int,
        width: int,
        features: int,
        similarities: int,
        kernel_dims: int,
        dropout: float,
        noise: float,
        outputs: int = 1,
    ) -> None:
        layers: list[nn.Module] = [
            InputNoise(noise),
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            BiasAct(width),
        ]
        for _ in range(doublings(resolution) + 1):
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
                BiasAct(2 * width),
                nn.Dropout(dropout),
            ]
            width *= 2
        layers += [nn.Flatten(), nn.Linear(4 * width, features, bias=False), BiasAct(features)]
        head = nn.Sequential(
            MinibatchDiscrimination(features, similarities, kernel_dims), nn.Linear(features + similarities, outputs)
        )
        super().__init__(nn.Sequential(*layers), head, features)


class BatchNormCritic(BodyAndHead):
    """Images to logits by strided convolutions with batch norm, but for the first layer, as in the paper.

    Batch norm compares the images of a batch, so data and samples are best judged in batches of their own, as training
    does.

    Args:
        channels, resolution: of the images; the resolution is a power of two, at least 8.
        width: channels of the first layer; each lower resolution has twice as many.
        outputs: numbers that it gives for an image: a logit, or features.

    Shape: [B, channels, resolution, resolution] -> [B, outputs]
    """

    def __init__(self, channels: int, resolution: int, width: int, outputs: int = 1) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), BiasAct(width)]
        for _ in range(doublings(resolution)):
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(2 * width),
                BiasAct(2 * width),
            ]
            width *= 2
        super().__init__(nn.Sequential(*layers, nn.Flatten()), nn.Linear(16 * width, outputs), 16 * width)


class InputNoise(nn.Module):
    """Adds Gaussian noise in training, from PyTorch's global generator; nothing in evaluation.

    Args:
        std: its standard deviation.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, images: Tensor) -> Tensor:
        return images + self.std * torch.randn_like(images) if self.training and self.std else images


def doublings(resolution: int) -> int:
    """The number of doublings from 4×4 to the resolution."""
    times = resolution.bit_length() - 3 if isinstance(resolution, int) else 0
    if times < 1 or 4 * 2**times != resolution:
        raise ValueError(f"resolution is {resolution}, expected a power of two, at least 8")
    return times
