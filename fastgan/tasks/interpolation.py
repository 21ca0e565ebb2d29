"""Ways from one latent to another."""

from collections.abc import Callable

import torch
from torch import Tensor

OPPOSITE = -0.9
"""The cosine below which two latents count as nearly opposite, 154 degrees or more apart."""


def slerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Spherical interpolation: (sin((1 - t) θ) a + sin(t θ) b) / sin θ, where θ is the angle between a and b.

    Between two of equal length it goes along the great circle, with constant speed and length; the points of a straight
    line are shorter, in many dimensions shorter than a normal distribution ever draws. At 0 and 1 it is exactly a and
    b; between parallel ones, or where one is zero, the way is straight. Nearly opposite ones of unequal length would
    send the formula far away, so there the direction is interpolated like this, and the length linearly; exactly
    opposite ones are joined by a half-circle in a plane that is always the same.

    Args:
        a, b: floating point [D], D at least 2.
        t: from 0 to 1, a number, or a scalar of the same dtype and device.

    Returns:
        [D]

    Raises:
        ValueError: a and b are no two vectors of the same D.

    Shoemake 1985, Animating rotation with quaternion curves; for latents White 2016, arXiv:1609.04468, section 2.1.
    """
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"slerp: a and b have shapes {list(a.shape)} and {list(b.shape)}, expected [D], D at least 2")
    if t == 0 or t == 1:
        return a if t == 0 else b
    cosine = (a @ b / (a.norm() * b.norm())).clamp(-1, 1)
    if cosine < OPPOSITE:
        return _turn(a.double(), b.double(), t).to(a.dtype)
    angle = torch.acos(cosine)
    if not angle >= 1e-4:  # sin(angle) would cancel; without a direction, the angle is no number
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def _turn(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """From a to b with the direction at constant speed along the great circle, and the length linear in t."""
    from_, to = a / a.norm(), b / b.norm()
    aside = to - (to @ from_) * from_
    if aside.norm() < 1e-6:  # any plane through a is as good
        other = torch.randn(len(a), dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(a.device)
        aside = other - (other @ from_) * from_
    aside = aside / aside.norm()
    angle = t * torch.atan2(to @ aside, to @ from_)
    return ((1 - t) * a.norm() + t * b.norm()) * (torch.cos(angle) * from_ + torch.sin(angle) * aside)


INTERPOLATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"linear": torch.lerp, "spherical": slerp}
"""Ways from one latent z to another by their names: a, b, and the share of the way, a scalar -> the point there."""
