"""CycleGAN's networks (Zhu et al. 2017, arXiv:1703.10593, appendix 7.2): images to images, and a critic of patches."""

from torch import Tensor, nn

from fastgan.nn import BiasAct
from fastgan.ops._common.checks import check_count


class TranslationGenerator(nn.Module):
    """Images to images of the same size: two halvings, residual blocks, two doublings.

    Args:
        channels: of the images.
        width: channels of the first layer (64 in the paper).
        blocks: residual blocks (6 for 128x128, 9 for 256x256 in the paper).

    Shape: [B, channels, H, W] -> the same, in [-1, 1]; H and W multiples of 4, at least 16.
    """

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 9) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("width", width), ("blocks", blocks)):
            check_count("TranslationGenerator", name, value)
        layers = [nn.ReflectionPad2d(3), *_convolution(channels, width, 7)]
        for wide in (width, 2 * width):
            layers += _convolution(wide, 2 * wide, 3, stride=2, padding=1)
        layers += [ResidualBlock(4 * width) for _ in range(blocks)]
        for wide in (4 * width, 2 * width):
            layers += [
                nn.ConvTranspose2d(wide, wide // 2, 3, stride=2, padding=1, output_padding=1, bias=False),
                nn.InstanceNorm2d(wide // 2),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7, bias=False), BiasAct(channels, act="tanh")]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm around a skip.

    Shape: [B, width, H, W] -> the same
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), *_convolution(width, width, 3), nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PatchCritic(nn.Module):
    """A logit for each patch of an image: strided convolutions with instance norm (PatchGAN, Isola et al. 2017).

    Args:
        channels: of the images.
        width: channels of the first layer (64 in the paper).
        halvings: strided convolutions: 3 look at patches of 70x70 pixels, 2 of 34x34, 1 of 16x16.

    Shape: [B, channels, H, W] -> [B, 1, H / 2^halvings - 2, W / 2^halvings - 2]
    """

    def __init__(self, channels: int = 3, width: int = 64, halvings: int = 3) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("width", width), ("halvings", halvings)):
            check_count("PatchCritic", name, value)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        wide = width
        for stride in [2] * (halvings - 1) + [1]:
            inputs, wide = wide, min(2 * wide, 8 * width)
            layers += [
                nn.Conv2d(inputs, wide, 4, stride=stride, padding=1, bias=False),
                nn.InstanceNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(wide, 1, 4, padding=1))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    # Instance norm takes away what a bias adds.
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False)
    return [convolution, nn.InstanceNorm2d(outputs), nn.ReLU()]


def _initialise(layer: nn.Module) -> None:
    """Weights of N(0, 0.02^2), as in the paper."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
