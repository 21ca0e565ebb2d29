"""spectral_norm: the weights of a whole network divided by estimates of their largest singular values, in one call.

torch's spectral norms make about 17 small operations for each layer and forward. Here all layers share a few loops
(or launches), and each weight is read as few times as the arithmetic allows: csrc/spectral_norm.h has the floor.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import spectral_norm_backends as kernels
from fastgan.ops.spectral_norm_autograd import Estimate, Settings, divided, estimate
from fastgan.ops.spectral_norm_checks import checked_dims
from fastgan.ops.spectral_norm_reference import spectral_norm_reference
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


def spectral_norm(
    weights: Sequence[Tensor],  # of any shapes with at least two dimensions
    u: Sequence[Tensor],  # [rows] each
    v: Sequence[Tensor],  # [columns] each
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dims: Sequence[int] | int = 0,
    v_first: bool = False,
) -> tuple[list[Tensor], Tensor]:  # like the weights, [number of weights]
    """Divides each weight by sigma = u' M v, after some steps of the power method, which update u and v in place.

    M is the weight as a matrix whose rows are dimension `dims`, its other dimensions flattened. A step is

        u = M v / max(|M v|, eps), then v = M' u / max(|M' u|, eps)      (`v_first`: the other way round)

    Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957, algorithm 1. u and
    v are constants to the gradient, which is exact to any order: dW = (G - <G, W / sigma> u v') / sigma.

    Args:
        weights: float32, float64, float16 or bfloat16, all of one dtype and device; dense in any memory order without a
            copy. Sums are float32 (float64 for float64), also under torch.autocast.
        u, v: estimates of the first singular vectors, of the weights' dtype and device, overwritten.
        n_power_iterations: 0 leaves u and v as they are.
        eps: the least norm that a vector is divided by.
        dims: the dimension of the rows, of all weights or of each.
        v_first: the order of torch.nn.utils.spectral_norm; by default that of torch.nn.utils.parametrizations.

    Returns:
        The normalised weights, and the sigmas in float32 (float64 for float64), differentiable too.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes differ.
        ValueError: numbers of tensors, shapes, devices or numbers do not fit.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    normalised, sigmas = _apply("spectral_norm", weights, u, v, n_power_iterations, eps, dims, v_first, scale=True)
    return normalised, sigmas


def spectral_sigma(
    weights: Sequence[Tensor],
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dims: Sequence[int] | int = 0,
    v_first: bool = False,
) -> Tensor:  # [number of weights]
    """The sigmas of `spectral_norm` alone, for a layer that divides its output instead of its weight.

    Saves the pass that writes the normalised weights, half of the memory traffic; arguments and errors are those of
    `spectral_norm`.
    """
    return _apply("spectral_sigma", weights, u, v, n_power_iterations, eps, dims, v_first, scale=False)[1]


def estimates(
    weights: Sequence[Tensor],
    u: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dims: Sequence[int] | int = 0,
    v_first: bool = False,
) -> list[Estimate]:
    """What `spectral_norm` would find for each weight, without a graph; u and v stay as they are.

    For those who do not know yet whether they want it. `spectral_norm_autograd.divided` makes the normalised weight of
    it. Arguments and errors are those of `spectral_norm`.
    """
    rows = checked_dims("spectral_norm", weights, u, v, n_power_iterations, eps, dims)
    settings = Settings(n_power_iterations, float(eps), v_first)
    return estimate(weights, list(zip(u, v, strict=True)), rows, settings) if weights else []


def _apply(
    name: str, weights: Sequence[Tensor], u: Sequence[Tensor], v: Sequence[Tensor], iterations: int, eps: float,
    dims: Sequence[int] | int, v_first: bool, scale: bool,
) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    rows = checked_dims(name, weights, u, v, iterations, eps, dims)
    if not weights:
        return [], torch.empty(0, dtype=torch.float32)
    settings = Settings(iterations, float(eps), v_first, scale)
    found = estimate(weights, list(zip(u, v, strict=True)), rows, settings)
    if iterations:
        with torch.no_grad():
            torch._foreach_copy_([*u, *v], [*(each.u for each in found), *(each.v for each in found)])
    normalised, sigmas = zip(*(divided(weight, each) for weight, each in zip(weights, found, strict=True)), strict=True)
    return list(normalised) if scale else [], torch.stack(sigmas)


# --- what the tests and the benchmarks call it with ------------------------------------------------------------------


def apart(*weights: Tensor, vectors: Sequence[tuple[Tensor, Tensor]], **kwargs: Any) -> tuple[Tensor, ...]:
    """`spectral_norm` as a function of the weights: all normalised ones, then the sigmas; u and v stay."""
    normalised, sigmas = spectral_norm(weights, *_vectors(weights, vectors), **kwargs)
    return *normalised, sigmas


def apart_reference(*weights: Tensor, vectors: Sequence[tuple[Tensor, Tensor]], **kwargs: Any) -> tuple[Tensor, ...]:
    dims = kwargs.get("dims", 0)
    rows = (dims,) * len(weights) if isinstance(dims, int) else dims
    rest = kwargs.get("n_power_iterations", 1), kwargs.get("eps", 1e-12), kwargs.get("v_first", False)
    normalised, sigmas, _, _ = spectral_norm_reference(weights, *_vectors(weights, vectors), rows, *rest)
    return *normalised, torch.stack(sigmas).to(kernels.compute_dtype(weights[0].dtype))


def joined(*weights: Tensor, **kwargs: Any) -> Tensor:
    return _joined(apart(*weights, **kwargs))


def joined_reference(*weights: Tensor, **kwargs: Any) -> Tensor:
    return _joined(apart_reference(*weights, **kwargs))


def _vectors(weights: Sequence[Tensor], vectors: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Fresh copies in the dtype and on the device of the weights."""
    u = [pair[0].to(w.device, w.dtype, copy=True) for w, pair in zip(weights, vectors, strict=True)]
    v = [pair[1].to(w.device, w.dtype, copy=True) for w, pair in zip(weights, vectors, strict=True)]
    return u, v


def _joined(outputs: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1).to(outputs[0].dtype) for x in outputs])


def _samples(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Iterator[Sample]:
    def sample(label: str, shapes: Sequence[tuple[int, ...]], dims: Sequence[int] | int = 0, smooth: bool = False,
               last: bool = False, **kwargs: Any) -> Sample:  # fmt: skip
        rows = (dims,) * len(shapes) if isinstance(dims, int) else dims
        if dtype != torch.float64:
            # An iteration rounds u and v to the dtype, by which all that follows differs from float64's in units of
            # the last place that depend on luck: tests/ops/test_spectral_norm.py bounds the two apart.
            kwargs["n_power_iterations"] = 0
        weights, vectors = [], []
        for shape, dim in zip(shapes, rows, strict=True):
            w = torch.randn(shape, generator=generator, dtype=torch.float64)
            u = torch.randn(shape[dim], generator=generator, dtype=torch.float64)
            m = w.movedim(dim, 0).flatten(1)
            for _ in range(3):  # so that sigma is far from zero, and nothing is a small difference of large numbers
                u = u / u.norm()
                v = m.t() @ u
                v = v / v.norm()
                u = m @ v
            u = u / u.norm()
            w = w.to(device, dtype)
            weights.append(w.to(memory_format=torch.channels_last) if last and w.ndim == 4 else w)
            vectors.append(tuple(x.to(device, dtype).double() for x in (u, v)))
        return Sample(tuple(weights), {"vectors": vectors, "dims": dims, **kwargs}, label, smooth)

    # With an iteration the vectors, constants to the gradient, depend on the weights: finite differences would see it.
    yield sample("still", [(4, 6), (3, 2, 2, 2), (1, 5)], smooth=True, n_power_iterations=0)
    yield sample("still-transposed", [(5, 3, 2, 2), (4, 3), (6, 1)], dims=1, smooth=True, n_power_iterations=0)
    yield sample("one-iteration", [(16, 3, 3, 3), (1, 40), (7, 1), (5, 13)])
    yield sample("v-first", [(16, 3, 3, 3), (1, 40), (7, 1), (5, 13)], v_first=True)
    yield sample("three-iterations", [(9, 30)], n_power_iterations=3)
    yield sample("transposed", [(6, 5, 4, 4), (7, 5, 1), (20, 33)], dims=(1, 1, 1))
    yield sample("transposed-v-first", [(6, 5, 4, 4), (7, 5, 1), (20, 33)], dims=(1, 1, 1), v_first=True)
    yield sample("middle", [(2, 5, 3), (4, 6)], dims=(1, 0))
    yield sample("channels-last", [(6, 5, 3, 3), (3, 4, 2, 2)], last=True)
    yield sample("several-slabs", [(70, 1100), (1100, 70)], dims=(0, 1))


SNGAN_32 = (
    *((128, 3, 3, 3), (128, 128, 3, 3), (128, 3, 1, 1), (128, 128, 3, 3), (128, 128, 3, 3), (128, 128, 1, 1)),
    *((128, 128, 3, 3), (128, 128, 3, 3), (128, 128, 3, 3), (128, 128, 3, 3), (1, 128)),
)
"""The weights of SNGAN's critic for 32x32 images (Miyato et al. 2018, table 4)."""
DCGAN_SN = (
    *((64, 3, 3, 3), (64, 64, 4, 4), (128, 64, 3, 3), (128, 128, 4, 4), (256, 128, 3, 3), (256, 256, 4, 4)),
    *((512, 256, 3, 3), (1, 8192)),
)
"""Those of its standard critic without residual blocks (table 3)."""
BIGGAN_128 = (
    *((96, 3, 3, 3), (96, 96, 3, 3), (96, 3, 1, 1), (192, 96, 3, 3), (192, 192, 3, 3), (384, 192, 3, 3)),
    *((384, 384, 3, 3), (768, 384, 3, 3), (768, 768, 3, 3), (1536, 768, 3, 3), (1536, 1536, 3, 3)),
    *((1536, 1536, 3, 3), (1536, 1536, 3, 3), (1, 1536), (1000, 1536)),
)
"""The large ones of BigGAN's critic for 128x128 images (Brock et al. 2019, table 5)."""


def bench_shape(label: str, shapes: Sequence[tuple[int, ...]]) -> BenchShape:
    def make(device: torch.device, dtype: torch.dtype) -> Sample:
        weights = tuple(torch.randn(shape, device=device, dtype=dtype) for shape in shapes)
        vectors = []
        for w in weights:
            m = w.flatten(1)
            u = torch.nn.functional.normalize(torch.randn(m.shape[0], device=device, dtype=dtype), dim=0)
            vectors.append((u, torch.nn.functional.normalize(m.t() @ u, dim=0)))
        return Sample(weights, {"vectors": vectors}, label=label)

    elements = sum(torch.Size(shape).numel() for shape in shapes)
    return BenchShape(label, make, lambda size: 3 * size * elements, 5 * elements)


SPEC = register(
    OpSpec(
        name="spectral_norm",
        function=joined,
        reference=joined_reference,
        backends={"cuda": FLOATING, "cpu": FLOATING},
        order=None,
        samples=_samples,
        bench=(
            bench_shape("SNGAN-32", SNGAN_32),
            bench_shape("DCGAN-SN", DCGAN_SN),
            bench_shape("BigGAN-128", BIGGAN_128),
        ),
        paper="Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, algorithm 1",
        apart=(apart, apart_reference),
    )
)
