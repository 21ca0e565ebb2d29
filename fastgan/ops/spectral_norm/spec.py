"""The OpSpec of spectral_norm: samples for the tests, shapes for the benchmarks, whole networks' weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.spectral_norm import spectral_norm
from fastgan.ops.spectral_norm.reference import Settings, spectral_norm_reference
from fastgan.registry import FLOATING, BenchShape, OpSpec, Sample, register


def apart(*weights: Tensor, vectors: Sequence[tuple[Tensor, Tensor]], **kwargs: Any) -> tuple[Tensor, ...]:
    """`spectral_norm` as a function of the weights: all normalised ones, then the sigmas; u and v stay."""
    normalised, sigmas = spectral_norm(weights, *_vectors(weights, vectors), **kwargs)
    return *normalised, sigmas


def apart_reference(*weights: Tensor, vectors: Sequence[tuple[Tensor, Tensor]], **kwargs: Any) -> tuple[Tensor, ...]:
    dims = kwargs.get("dims", 0)
    rows = (dims,) * len(weights) if isinstance(dims, int) else dims
    settings = Settings(kwargs.get("n_power_iterations", 1), kwargs.get("eps", 1e-12), kwargs.get("v_first", False))
    normalised, sigmas, _, _ = spectral_norm_reference(weights, *_vectors(weights, vectors), rows, settings)
    return *normalised, torch.stack(sigmas).to(compute_dtype(weights[0]))


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
