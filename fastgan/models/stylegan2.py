"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): a skip generator and a residual critic.

Both double or halve the resolution level by level between their smallest image and the full one. The smaller side of
the smallest is 4 pixels; images need not be square.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastgan.nn import EqualizedConv2d, EqualizedLinear, MappingNetwork, MinibatchStdDev, StyledConv, ToRGB
from fastgan.nn.exact_filter import ExactFilter
from fastgan.ops import setup_filter, upsample2d
from fastgan.ops._common.checks import check_count, check_shape

Size = tuple[int, int]  # height and width


class StyleGAN2Generator(nn.Module):
    """Latents to images: a mapping network from z to w, and a synthesis network whose layers w styles.

        images = generator(z)
        images = generator(z, psi=0.7)              # truncated
        images = generator.synthesis(ws)            # from one w for each layer, [B, num_ws, w_dim]

    In training it mixes styles: with `mixing_probability` the layers of a batch after a random one get the w of other
    latents (Karras et al. 2019, arXiv:1812.04948, section 3.1), drawn from PyTorch's global generator.

    Args:
        resolution: height and width of the images, 8 to 1024, as `levels` wants them: a power of two, or two sizes of
            which the smaller is one and the larger a multiple of a quarter of it.
        channels: of the images.
        z_dim, w_dim: numbers in a latent z and w.
        mapping_layers: of the mapping network.
        width: channels times resolution, up to `max_width` channels. The paper's large networks have 32,768.
        max_width: most channels of a layer.
        mixing_probability: of a batch to be mixed in training.
        clamp: bound of the activations, which keeps float16 from overflowing; None for no bound.

    Shape: [B, z_dim] -> [B, channels, *resolution], about [-1, 1]
    """

    def __init__(
        self,
        resolution: int | Size,
        channels: int = 3,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        width: int = 32768,
        max_width: int = 512,
        mixing_probability: float = 0.9,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= mixing_probability <= 1:
            raise ValueError(
                f"StyleGAN2Generator: mixing_probability is {mixing_probability}, expected a number from 0 to 1"
            )
        self.mixing_probability = mixing_probability
        self.synthesis = Synthesis(resolution, channels, w_dim, width, max_width, clamp)
        self.mapping = MappingNetwork(z_dim, w_dim, mapping_layers)
        self.latent_dim, self.num_ws = z_dim, self.synthesis.num_ws

    def forward(self, z: Tensor, psi: float = 1.0, noise: str | None = None) -> Tensor:
        """`psi` truncates, `noise` is random, const or none (default: random in training, const in evaluation)."""
        return self.synthesis(self.ws(z, psi), noise)

    def ws(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """One w for each layer of the synthesis, [B, num_ws, w_dim]: the same for all, or mixed in training."""
        ws = self.mapping(z, psi).unsqueeze(1).expand(-1, self.num_ws, -1)
        if not self.training or torch.rand([], dtype=torch.float32).item() >= self.mixing_probability:
            return ws
        fresh = torch.randn(z.shape, dtype=torch.float32, device=z.device)
        others = self.mapping(fresh, psi).unsqueeze(1).expand(-1, self.num_ws, -1)
        crossover = int(torch.randint(1, self.num_ws, []))
        return torch.cat([ws[:, :crossover], others[:, crossover:]], 1)


class Synthesis(ExactFilter):
    """One w for each layer -> an image: the sum of the outputs of all resolutions.

    Args:
        resolution, channels, w_dim, width, max_width, clamp: as in `StyleGAN2Generator`.

    Shape: [B, num_ws, w_dim] -> [B, channels, *resolution]
    """

    resample_filter: Tensor

    def __init__(
        self, resolution: int | Size, channels: int, w_dim: int, width: int, max_width: int, clamp: float | None
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "w_dim": w_dim, "width": width, "max_width": max_width}.items():
            check_count("StyleGAN2Generator", name, value)
        sizes = levels(resolution)
        widths = [channels_at(size, width, max_width) for size in sizes]
        self.w_dim = w_dim
        self.const = nn.Parameter(torch.randn(widths[0], *sizes[0]))
        blocks = []
        for level, size in enumerate(sizes):
            before = None if level == 0 else widths[level - 1]
            blocks.append(SynthesisBlock(before, widths[level], channels, w_dim, size, clamp))
        self.blocks = nn.ModuleList(blocks)
        self.num_ws = 2 * len(sizes)
        self.register_buffer("resample_filter", setup_filter([1, 3, 3, 1]))

    def forward(self, ws: Tensor, noise: str | None = None) -> Tensor:
        """`noise`: random, const or none; by default random in training and const in evaluation."""
        check_shape("StyleGAN2Generator", "ws", ws, ("batch", self.num_ws, self.w_dim))
        noise = noise or ("random" if self.training else "const")
        x = self.const.expand(ws.shape[0], -1, -1, -1)
        image: Tensor | None = None
        first = 0
        for block in self.blocks:
            assert isinstance(block, SynthesisBlock)
            # An image's layer shares its w with the next block's first.
            x, added = block(x, ws[:, first : first + block.num_layers + 1].unbind(1), noise)
            image = added if image is None else upsample2d(image, self.resample_filter) + added
            first += block.num_layers
        assert image is not None
        return image


class SynthesisBlock(nn.Module):
    """The layers at one resolution: upsampling (but for the first), convolution, and the output to the image.

    Args:
        before: channels of the resolution below; None for the first.
        width: channels at this one.
        channels, w_dim, clamp: as in `Synthesis`.
        size: height and width.

    Shape: [B, before, H/2, W/2] -> [B, width, H, W] and [B, channels, H, W]
    """

    def __init__(
        self, before: int | None, width: int, channels: int, w_dim: int, size: Size, clamp: float | None
    ) -> None:
        super().__init__()
        self.up = None if before is None else StyledConv(before, width, w_dim, size, up=2, clamp=clamp)
        self.conv = StyledConv(width, width, w_dim, size, clamp=clamp)
        self.to_rgb = ToRGB(width, channels, w_dim, clamp=clamp)
        self.num_layers = 1 if before is None else 2

    def forward(self, x: Tensor, ws: tuple[Tensor, ...], noise: str) -> tuple[Tensor, Tensor]:
        if self.up is not None:
            x = self.up(x, ws[0], noise)
        x = self.conv(x, ws[-2], noise)
        return x, self.to_rgb(x, ws[-1])


class StyleGAN2Critic(nn.Module):
    """Images to logits, through residual blocks and the standard deviation over groups of the batch.

    Args:
        resolution, channels, width, max_width, clamp: as in `StyleGAN2Generator`.
        group_size: samples whose standard deviation the critic sees, as in `MinibatchStdDev`; 0 leaves it out, so that
            the critic is piecewise affine in each image and its gradient penalties take one pass.
        outputs: numbers that it gives for an image: a logit, or features.

    Shape: [B, channels, *resolution] -> [B, outputs]

    Attributes:
        matched: the submodule whose outputs an objective of a logit and features compares.
    """

    matched = "fc"

    def __init__(
        self,
        resolution: int | Size,
        channels: int = 3,
        width: int = 32768,
        max_width: int = 512,
        group_size: int = 4,
        clamp: float | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "width": width, "max_width": max_width, "outputs": outputs}.items():
            check_count("StyleGAN2Critic", name, value)
        sizes = levels(resolution)[::-1]
        self.shape = (channels, *sizes[0])
        widths = [channels_at(size, width, max_width) for size in sizes]
        self.from_rgb = EqualizedConv2d(channels, widths[0], 1, act="lrelu", clamp=clamp)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(CriticBlock(before, after, clamp) for before, after in pairs))
        last, (height, width_) = widths[-1], sizes[-1]
        self.minibatch_stddev = MinibatchStdDev(group_size) if group_size else None
        self.conv = EqualizedConv2d(last + (1 if group_size else 0), last, 3, act="lrelu", clamp=clamp)
        self.fc = EqualizedLinear(last * height * width_, last, act="lrelu")
        self.out = EqualizedLinear(last, outputs)
        self.num_features = last

    @property
    def head(self) -> nn.Module:
        """The module that judges the features."""
        return self.out

    def penultimate(self, images: Tensor) -> Tensor:
        """The features of images, [B, num_features], that the head judges: each depends on the images of its group."""
        check_shape("StyleGAN2Critic", "images", images, ("batch", *self.shape))
        x = self.blocks(self.from_rgb(images))
        if self.minibatch_stddev is not None:
            x = self.minibatch_stddev(x)
        return self.fc(self.conv(x).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.penultimate(images))


class CriticBlock(nn.Module):
    """A residual block that halves the resolution: two convolutions beside a strided projection.

    Args:
        before, after: channels.
        clamp: bound of the activations.

    Shape: [B, before, H, W] -> [B, after, H/2, W/2]
    """

    def __init__(self, before: int, after: int, clamp: float | None) -> None:
        super().__init__()
        self.conv0 = EqualizedConv2d(before, before, 3, act="lrelu", clamp=clamp)
        self.conv1 = EqualizedConv2d(before, after, 3, act="lrelu", down=2, clamp=clamp)
        self.skip = EqualizedConv2d(before, after, 1, bias=False, down=2)

    def forward(self, x: Tensor) -> Tensor:
        half = 0.5**0.5  # keeps the variance of the sum
        return self.conv1(self.conv0(x), gain=half) + self.skip(x, gain=half)


def levels(resolution: int | Size) -> list[Size]:
    """The image sizes from the smallest to the full one, each double the one before.

    Raises:
        ValueError: it is no integer or pair of them, the smaller side is not 4 times a power of two from 8 to 1024, or
            the larger one does not divide.
    """
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    if not isinstance(sides, Sequence) or len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise ValueError(f"resolution is {resolution!r}, expected an integer or (height, width)")
    height, width = sides
    smaller = min(height, width)
    doublings = smaller.bit_length() - 3
    square = smaller >= 8 and max(height, width) <= 1024 and smaller == 4 << doublings
    if not square or max(height, width) % (1 << doublings):
        raise ValueError(
            f"resolution is {resolution}, expected 8 to 1024: a power of two, or a height and width of which the "
            "smaller is one and the larger a multiple of a quarter of it"
        )
    return [(height >> shift, width >> shift) for shift in range(doublings, -1, -1)]


def channels_at(size: Size, width: int, max_width: int) -> int:
    """Channels of the layers at a size: fewer where there are more pixels."""
    return max(1, min(width // min(size), max_width))
