"""Packing (PacGAN): the critic judges several samples at once, and so sees whether they are all alike."""

from torch import Tensor, nn

from fastgan.ops._common.checks import check_count
from fastgan.ops._common.layout import is_channels_last


def pack(
    x: Tensor,  # [B, C, ...]
    m: int,
) -> Tensor:  # [B / m, m C, ...]
    """Puts each m consecutive samples on top of each other, channel after channel; `unpack` takes them apart again.

    Contiguous samples are packed without a copy; channels_last ones are copied once and stay channels_last.

    Args:
        x: of any dtype, with two dimensions or more; B a multiple of m.
        m: the degree of packing, at least 1.

    Raises:
        ValueError: m is no integer of at least 1, x has fewer than two dimensions, or B is no multiple of m.

    Lin et al. 2018, arXiv:1712.04086, section 3.
    """
    _check("pack", x, m)
    B, C = x.shape[:2]
    if B % m:
        raise ValueError(f"pack: x has shape {list(x.shape)}, expected a batch that is a multiple of m = {m}")
    if is_channels_last(x) and not x.is_contiguous():
        return x.movedim(1, -1).unflatten(0, (B // m, m)).movedim(1, -2).flatten(-2).movedim(-1, 1)
    return x.reshape(B // m, m * C, *x.shape[2:])


def unpack(
    x: Tensor,  # [B, m C, ...]
    m: int,
) -> Tensor:  # [m B, C, ...]
    """The inverse of `pack`, for samples packed to the same degree.

    Args:
        x: of any dtype, with two dimensions or more; its channels a multiple of m.
        m: the degree of packing, at least 1.

    Raises:
        ValueError: m is no integer of at least 1, x has fewer than two dimensions, or m does not divide its channels.
    """
    _check("unpack", x, m)
    B, channels = x.shape[:2]
    if channels % m:
        raise ValueError(f"unpack: x has shape {list(x.shape)}, expected channels that are a multiple of m = {m}")
    if is_channels_last(x) and not x.is_contiguous():
        return x.movedim(1, -1).unflatten(-1, (m, channels // m)).movedim(-2, 1).flatten(0, 1).movedim(-1, 1)
    return x.reshape(m * B, channels // m, *x.shape[2:])


class PackedCritic(nn.Module):
    """A critic of m samples at a time, called like a critic of single ones: [B, C, ...] -> [B / m, 1].

    Any loop and any loss works with it as it is, as long as real and generated batches are multiples of m: all of the
    samples in a pack are real, or none. Lin et al. 2018, arXiv:1712.04086, section 3.

    A penalty of the gradient belongs to the whole pack: a norm of each sample's part of it is another penalty. So
    `fastgan.critic_loss` and its kin call the critic inside on packs, `critic_loss(packed, real, fake, ...)` is
    `critic_loss(packed.critic, pack(real, m), pack(fake, m), ...)`. Penalties of your own should do the same.

    Args:
        critic: takes m times as many channels as a sample has.
        m: the degree of packing, at least 1.

    Raises:
        ValueError: m is no integer of at least 1; in forward, as `pack`.
    """

    def __init__(self, critic: nn.Module, m: int) -> None:
        super().__init__()
        if not isinstance(critic, nn.Module):
            raise TypeError(f"PackedCritic: critic is {type(critic).__name__}, expected a torch.nn.Module")
        check_count("PackedCritic", "m", m)
        self.critic, self.m = critic, m

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(pack(x, self.m))

    def extra_repr(self) -> str:
        return f"m={self.m}"


def _check(owner: str, x: Tensor, m: int) -> None:
    check_count(owner, "m", m)
    if x.ndim < 2:
        raise ValueError(f"{owner}: x has shape {list(x.shape)}, expected [batch, channels, ...]")
