"""The sliced Wasserstein game: the critic classifies, the generator moves the distribution of the critic's features.

On a line the optimal transport between two samples pairs them in their order, so that the distance of projections onto
lines needs only sorting, and is differentiable. Maximised by the critic it would have no upper bound: features may be
scaled. In the paper the critic is trained to classify data and samples instead, by a logit that is read off the same
features, and so it is here: its output is one logit, then as many features as it likes, all in one vector.

    torch.cat([head(features), features], dim=1)        # [B, 1 + F]: what the critic returns

All of it is transported, the logit too, so that a critic that returns a logit alone has it for its only feature.
Gradient penalties are of the logit's gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fastgan.losses.features import leading_logit, vectors, wide, without_autocast
from fastgan.losses.loss import Loss
from fastgan.ops._common.checks import check_count, check_floating, check_shape

PROJECTIONS = 512


def random_directions(features: int, projections: int, like: Tensor) -> Tensor:
    """Unit vectors, uniform on the sphere, from PyTorch's global generator: [features, projections].

    Args:
        features, projections: sizes, at least 1.
        like: whose dtype (but float32 for half precision) and device they have.
    """
    directions = torch.randn(features, projections, dtype=wide(like).dtype, device=like.device)
    return directions / torch.linalg.vector_norm(directions, dim=0)


def squared_sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = PROJECTIONS, directions: Tensor | None = None
) -> Tensor:
    """mean over directions w, mean over i of ((X w)_(i) - (Y w)_(i))^2, with the projections in ascending order.

    Args:
        x, y: two samples, floating point, both [B, F], B at least 1. Half precision is computed in float32, under
            torch.autocast too.
        projections: how many random directions are drawn. The estimate is unbiased for any number.
        directions: unit vectors [F, P] in their place.

    Returns:
        The average squared 2-Wasserstein distance along the directions, a scalar in float32 (float64 for float64).

    Raises:
        TypeError: x, y or directions is no floating-point tensor.
        ValueError: x and y are not of one shape [B, F], directions not [F, P], or there is nothing to compare.

    Deshpande et al. 2018, arXiv:1803.11188.
    """
    owner = "squared_sliced_wasserstein"
    check_shape(owner, "x", x, ["B", "F"])
    check_shape(owner, "y", y, ["B", x.shape[1]])
    if len(x) != len(y) or not x.numel():
        raise ValueError(
            f"{owner}: x has shape {list(x.shape)} and y {list(y.shape)}, expected equally many points of at least one "
            "feature, as they are paired in their order"
        )
    if directions is None:
        check_count(owner, "projections", projections)
        directions = random_directions(x.shape[1], projections, x)
    else:
        check_shape(owner, "directions", directions, [x.shape[1], "P"])
        if not directions.shape[1]:
            raise ValueError(f"{owner}: directions has shape {list(directions.shape)}, expected at least one direction")
    with without_autocast(x):
        x, y = wide(x), wide(y)
        centre = (x.mean(0) + y.mean(0)).detach() / 2  # far from 0, projections would be rounded more coarsely
        lines = directions.to(x.dtype).mT
        first, second = ((lines @ (points - centre).mT).sort(dim=1).values for points in (x, y))
        return (first - second).square().mean()


def critic(real_outputs: Tensor, fake_outputs: Tensor) -> Tensor:
    """-E_p log s(D_0(x)) - E_q log(1 - s(D_0(G(z)))), with D_0 the first of the critic's outputs.

    Args:
        real_outputs: the critic's output on data, a logit and then its features: floating point [B, 1 + F], F >= 0, or
            [B, ...], which is flattened to it.
        fake_outputs: its output on samples, [B', 1 + F].

    Returns:
        A scalar; 2 log 2 = 1.386 for a critic that cannot tell the two apart.

    Raises:
        TypeError, ValueError: an argument is no such tensor.

    Deshpande et al. 2018, arXiv:1803.11188.
    """
    real, fake = _outputs("real_outputs", real_outputs), _outputs("fake_outputs", fake_outputs)
    return softplus(-wide(real[:, 0])).mean() + softplus(wide(fake[:, 0])).mean()


def generator(fake_outputs: Tensor, real_outputs: Tensor | None) -> Tensor:
    """E_w W_2^2(w·D(x), w·D(G(z))), estimated on 512 random directions w.

    Args:
        fake_outputs: the critic's output on samples, floating point [B, 1 + F].
        real_outputs: its output on as many images of the data, of the same shape.

    Returns:
        A scalar in float32 (float64 for float64); 0 where the outputs are the same set.

    Raises:
        ValueError: the real outputs are missing, or the shapes differ.

    Deshpande et al. 2018, arXiv:1803.11188.
    """
    if real_outputs is None:
        raise ValueError("sliced_wasserstein: real_outputs is None, expected the critic's output on data")
    fake, real = _outputs("fake_outputs", fake_outputs), _outputs("real_outputs", real_outputs)
    if real.shape != fake.shape or not len(fake):
        raise ValueError(
            f"sliced_wasserstein: fake_outputs has shape {list(fake.shape)} and real_outputs {list(real.shape)}, "
            "expected equally many of each, at least one, as they are paired in their order"
        )
    return squared_sliced_wasserstein(fake, real)


def _outputs(name: str, outputs: Tensor) -> Tensor:
    """Returns outputs as [B, 1 + F], a logit and then features; raises for another shape."""
    check_floating("sliced_wasserstein", name, outputs)
    outputs = vectors(outputs)
    if outputs.ndim != 2 or not outputs.shape[1]:
        raise ValueError(f"sliced_wasserstein: {name} has shape {list(outputs.shape)}, expected [B, 1 + F], F >= 0")
    return outputs


sliced_wasserstein = Loss(
    "sliced_wasserstein",
    critic,
    generator,
    "Deshpande et al. 2018, arXiv:1803.11188",
    needs_real=True,
    output="features",
    least=2,
    witness=leading_logit,
)
