"""A residual pair whose critic is piecewise affine in each image, so that its gradient penalties take one pass.

Residual blocks with the activation first (He et al. 2016, arXiv:1603.05027), as in WGAN-GP's networks (Gulrajani et al.
2017, arXiv:1704.00028, appendix F) and R3GAN's (Huang et al. 2024, arXiv:2501.05441). Convolutions carry no bias:
`fastgan.nn.BiasAct` adds it in the same pass as the activation.

The critic has convolutions, leaky ReLUs and averages only. Batch norm or minibatch discrimination would let one image's
output depend on the others, and a smooth activation would bend it: either makes a penalty cost a double backward.
"""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from fastgan.models.class_conditional import EMBEDDING_DIM, batch_norm, class_embedding, embedded, sequence
from fastgan.models.dcgan import doublings
from fastgan.models.headed import BodyAndHead
from fastgan.nn import BiasAct


class UpBlock(nn.Module):
    """A residual block that doubles the resolution: nearest neighbours, then two convolutions.

    Args:
        inputs, outputs: channels.
        class_dim: numbers in the vector of a class, which batch norm's gains and biases depend on then.

    Shape: [B, inputs, H, W], and vectors [B, class_dim] if there are classes -> [B, outputs, 2H, 2W]
    """

    def __init__(self, inputs: int, outputs: int, class_dim: int | None = None) -> None:
        super().__init__()
        self.embedding_dim = class_dim
        self.before = sequence(class_dim, batch_norm(inputs, class_dim), BiasAct(inputs))
        self.after = sequence(
            class_dim,
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            batch_norm(outputs, class_dim),
            BiasAct(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, *c: Tensor) -> Tensor:
        # A 1x1 convolution and a copy of each pixel commute: convolving first is a quarter of the work.
        return self.after(_doubled(self.before(x, *c)), *c) + _doubled(self.skip(x))


class DownBlock(nn.Module):
    """A residual block that halves the resolution: two convolutions, then the average of four pixels.

    Args:
        inputs, outputs: channels.

    Shape: [B, inputs, H, W] -> [B, outputs, H/2, W/2]
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            BiasAct(inputs),
            nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
            BiasAct(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.residual(x), 2) + self.skip(avg_pool2d(x, 2))


class ResNetGenerator(nn.Module):
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
        self.embed = class_embedding("ResNetGenerator", num_classes)
        class_dim = None if num_classes is None else EMBEDDING_DIM
        times = doublings(resolution)
        wide = width * 2**times
        layers: list[nn.Module] = [nn.Linear(latent_dim, wide * 16, bias=False), nn.Unflatten(1, (wide, 4, 4))]
        for _ in range(times):
            layers.append(UpBlock(wide, wide // 2, class_dim))
            wide //= 2
        layers += [
            batch_norm(wide, class_dim),
            BiasAct(wide),
            nn.Conv2d(wide, channels, 3, padding=1, bias=False),
            BiasAct(channels, act="tanh"),
        ]
        self.layers = sequence(class_dim, *layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(z, *embedded("ResNetGenerator", self.embed, labels, len(z)))


class ResNetCritic(BodyAndHead):
    """Images to logits, halving the resolution down to 2×2 and then averaging over the four pixels.

    Args:
        channels, resolution: of the images; the resolution is a power of two, at least 8.
        width: channels of the first layer; each lower resolution has twice as many.
        outputs: numbers that it gives for an image: a logit, or features.

    Shape: [B, channels, resolution, resolution] -> [B, outputs]
    """

    def __init__(self, channels: int, resolution: int, width: int, outputs: int = 1) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for _ in range(doublings(resolution) + 1):
            layers.append(DownBlock(width, 2 * width))
            width *= 2
        layers.append(BiasAct(width))
        super().__init__(nn.Sequential(*layers), nn.Linear(width, outputs), width)

    def penultimate(self, images: Tensor) -> Tensor:
        """The features of images, [B, num_features], that the head judges."""
        return super().penultimate(images).mean((2, 3))


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0)
