"""Self-attention between the pixels of an image, as SAGAN and BigGAN have it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgan.ops._common.checks import check_count, check_shape
from fastgan.ops.attention import attention


class SelfAttention2d(nn.Module):
    """x + gamma o(attention(theta(x), pool(phi(x)), pool(g(x)))), all four 1x1 convolutions without bias.

    Zhang et al. 2019, Self-Attention Generative Adversarial Networks, arXiv:1805.08318, equations 1 to 3, as used by
    Brock et al. 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis, arXiv:1809.11096: queries
    (theta) and keys (phi) have an eighth of the channels, values (g) half of them, keys and values are the maxima of
    2x2 pixels, the products are not scaled, and gamma starts at 0, so that the block is the identity at first. Its
    parameters have the names of the published code, so that weights load. Double backward takes memory linear in the
    number of pixels (`fastgan.ops.attention`).

    Where the convolutions are to be spectrally normalised, as in both papers, wrap them:
    `fastgan.nn.spectral_norm_(block)`.

    Args:
        channels: of the image, at least 8.
        pooled: whether keys and values are pooled; the original has all pixels.
        device, dtype: of the parameters, as for torch.nn's layers.

    Raises:
        ValueError: channels is no integer >= 8; the input is no [B, channels, H, W], or too small to pool.
        TypeError: the input is not floating point.
    """

    def __init__(
        self,
        channels: int,
        pooled: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("SelfAttention2d", "channels", channels)
        if channels < 8:
            raise ValueError(f"SelfAttention2d: channels is {channels}, expected at least 8")
        self.channels, self.pooled = channels, pooled
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False, device=device, dtype=dtype)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False, device=device, dtype=dtype)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False, device=device, dtype=dtype)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False, device=device, dtype=dtype)
        self.gamma = nn.Parameter(torch.zeros((), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draws the weights anew, and sets gamma to 0."""
        for convolution in (self.theta, self.phi, self.g, self.o):
            convolution.reset_parameters()
        nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> the same
        check_shape("SelfAttention2d", "x", x, ("B", self.channels, "H", "W"))
        if self.pooled and min(x.shape[2:]) < 2:
            raise ValueError(f"SelfAttention2d: x has shape {list(x.shape)}, expected at least 2x2 pixels to pool")
        queries, keys, values = self.theta(x), self.phi(x), self.g(x)
        if self.pooled:
            keys, values = F.max_pool2d(keys, 2), F.max_pool2d(values, 2)
        q, k, v = (y.flatten(2).transpose(1, 2) for y in (queries, keys, values))
        mixed = attention(q, k, v, scale=1.0).transpose(1, 2)
        return x + self.gamma * self.o(mixed.unflatten(2, x.shape[2:]))

    def extra_repr(self) -> str:
        return f"{self.channels}, pooled={self.pooled}"
