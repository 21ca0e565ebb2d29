"""Layers with weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from tests.penalties.steps.base import CLASSES, Draw, Shape, flag, pick, step, whole


@step()
def convolution(draw: Draw, shape: Shape) -> Any:
    channels, *sizes = shape
    if not sizes:
        return None
    groups = pick(draw, *[g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    padding, dilation = whole(draw, 0, 2), whole(draw, 1, 2)
    room = (min(sizes) + 2 * padding - 1) // dilation + 1
    mode = pick(draw, "zeros", "zeros", "reflect", "replicate", "circular")
    kernel = whole(draw, 1, min(3, room))
    if mode != "zeros":
        padding = min(padding, min(sizes) - 1)
        kernel = min(kernel, (min(sizes) + 2 * padding - 1) // dilation + 1)
    kind = nn.Conv1d if len(sizes) == 1 else nn.Conv2d
    layer = kind(
        channels, groups * whole(draw, 1, 3), kernel, whole(draw, 1, 2), padding, dilation, groups, flag(draw), mode
    )
    norm = pick(draw, None, None, None, parametrizations.weight_norm, parametrizations.spectral_norm)
    return lambda m, h, y: m.layer(h), {"layer": layer if norm is None else norm(layer)}


@step()
def rectangular_convolution(draw: Draw, shape: Shape) -> Any:
    if len(shape) != 3:
        return None
    kernel = tuple(whole(draw, 1, min(3, size)) for size in shape[1:])
    stride, padding = (whole(draw, 1, 2), whole(draw, 1, 2)), pick(draw, "valid", (0, 1), (1, 0), (2, 1))
    layer = nn.Conv2d(shape[0], whole(draw, 1, 4), kernel, stride, padding)
    return lambda m, h, y: m.layer(h), {"layer": layer}


@step()
def same_convolution(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1:
        return None
    kind = nn.Conv1d if len(shape) == 2 else nn.Conv2d
    layer = kind(shape[0], shape[0], whole(draw, 1, 3), padding="same", dilation=whole(draw, 1, 2))
    return lambda m, h, y: m.layer(h), {"layer": layer}


@step()
def transposed_convolution(draw: Draw, shape: Shape) -> Any:
    channels, *sizes = shape
    if not sizes or max(sizes) > 6:
        return None
    groups = pick(draw, *[g for g in (1, 2, channels) if channels % g == 0])
    stride, dilation = whole(draw, 1, 2), whole(draw, 1, 2)
    extra = whole(draw, 0, max(stride, dilation) - 1)
    kind = nn.ConvTranspose1d if len(sizes) == 1 else nn.ConvTranspose2d
    layer = kind(
        channels,
        groups * whole(draw, 1, 2),
        whole(draw, 2, 3),
        stride,
        whole(draw, 0, 1),
        extra,
        groups,
        flag(draw),
        dilation,
    )
    if (
        min((s - 1) * stride - 2 * layer.padding[0] + dilation * (layer.kernel_size[0] - 1) + extra + 1 for s in sizes)
        < 1
    ):
        return None
    return lambda m, h, y: m.layer(h), {"layer": layer}


@step()
def linear(draw: Draw, shape: Shape) -> Any:
    """Over the last dimension, whatever comes before it."""
    layer = nn.Linear(shape[-1], whole(draw, 1, 6), bias=flag(draw))
    return lambda m, h, y: m.layer(h), {"layer": layer}


@step()
def linear_of_channels(draw: Draw, shape: Shape) -> Any:
    layer = nn.Linear(shape[0], whole(draw, 1, 6), bias=flag(draw))
    return lambda m, h, y: m.layer(h.movedim(1, -1)).movedim(-1, 1), {"layer": layer}


@step()
def matrix_product(draw: Draw, shape: Shape) -> Any:
    weight = nn.Parameter(torch.randn(shape[-1], whole(draw, 1, 4)))
    return lambda m, h, y: torch.matmul(h, m.weight), {"weight": weight}


@step()
def matrix_product_from_the_left(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1:
        return None
    weight = nn.Parameter(torch.randn(whole(draw, 1, 4), shape[-2]))
    return lambda m, h, y: torch.matmul(m.weight, h), {"weight": weight}


@step()
def einsum(draw: Draw, shape: Shape) -> Any:
    weight = nn.Parameter(torch.randn(whole(draw, 1, 4), shape[0]))
    return lambda m, h, y: torch.einsum("bc...,dc->bd...", h, m.weight), {"weight": weight}


@step()
def weights_of_the_label(draw: Draw, shape: Shape) -> Any:
    """A matrix for each sample."""
    channels, out = shape[0], whole(draw, 1, 3)
    embed = nn.Embedding(CLASSES, channels * out)
    return (
        lambda m, h, y: torch.bmm(
            m.embed(y).view(len(h), -1, h.shape[1]), h.flatten(2) if h.ndim > 2 else h[..., None]
        ).reshape(len(h), -1, *h.shape[2:])
    ), {"embed": embed}


@step()
def tied_autoencoder(draw: Draw, shape: Shape) -> Any:
    """One weight and its transpose."""
    weight = nn.Parameter(torch.randn(3, shape[-1]))
    return lambda m, h, y: F.linear(F.leaky_relu(F.linear(h, m.weight), 0.2), m.weight.t()), {"weight": weight}


@step()
def used_twice(draw: Draw, shape: Shape) -> Any:
    layer = nn.Linear(shape[-1], shape[-1])
    return lambda m, h, y: m.layer(F.leaky_relu(m.layer(h), 0.2)) + 0.5 * h, {"layer": layer}


@step()
def batch_norm_evaluating(draw: Draw, shape: Shape) -> Any:
    kind = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[len(shape) - 1]
    norm = kind(shape[0], affine=flag(draw)).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return lambda m, h, y: m.norm(h), {"norm": norm}
