"""Sums, products, labels, gates and noise."""

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.penalties.steps.base import CLASSES, Draw, Shape, Step, along, bias, parameter, pick, step


@step()
def scale_and_shift(draw: Draw, shape: Shape) -> Any:
    gain, shift, number = parameter(shape[0]), bias(shape[0]), nn.Parameter(torch.rand(()) + 0.5)
    f = pick(
        draw,
        lambda m, h, y: h * along(m.gain, h) + along(m.shift, h),
        lambda m, h, y: h / along(m.gain, h) - along(m.shift, h),
        lambda m, h, y: m.number * h,
        lambda m, h, y: along(m.shift, h) - h,
        lambda m, h, y: -h + m.number,
        lambda m, h, y: torch.add(h, along(m.shift, h), alpha=-2),
        lambda m, h, y: torch.sub(along(m.shift, h), h, alpha=3),
        lambda m, h, y: 1 - h / m.number,
        lambda m, h, y: torch.rsub(h, 2, alpha=0.5),
        lambda m, h, y: h * 2**0.5 - 0.1,
        lambda m, h, y: torch.lerp(h, h.flip(1), 0.3),
        lambda m, h, y: h * along(m.gain * m.shift.exp(), h),
        lambda m, h, y: h + h,
        lambda m, h, y: h - 0.5 * h + along(m.gain, h),
    )
    return f, {"gain": gain, "shift": shift, "number": number}


@step()
def in_place_arithmetic(draw: Draw, shape: Shape) -> Any:
    gain, shift = parameter(shape[0]), bias(shape[0])

    def f(m: Step, h: Tensor, y: Tensor) -> Tensor:
        h = h * 1.1
        for i in m.order:
            if i == 0:
                h *= along(m.gain, h)
            elif i == 1:
                h += along(m.shift, h)
            elif i == 2:
                h.sub_(0.1).neg_()
            elif i == 3:
                h /= along(m.gain, h)
            else:
                h = F.leaky_relu_(h, 0.2)
        return h

    return f, {"gain": gain, "shift": shift, "order": draw(st.lists(st.integers(0, 4), max_size=4))}


@step()
def residual(draw: Draw, shape: Shape) -> Any:
    layer = nn.Linear(shape[-1], shape[-1])
    f = pick(
        draw,
        lambda m, h, y: h + m.layer(F.relu(h)),
        lambda m, h, y: (h + F.leaky_relu(m.layer(h), 0.2)) / 2**0.5,
        lambda m, h, y: m.layer(h).add_(h),
        lambda m, h, y: torch.add(m.layer(h), h, alpha=0.5),
        lambda m, h, y: F.relu_(m.layer(h)) - h,
        lambda m, h, y: sum([h, m.layer(h), m.layer(h.abs())]),
    )
    return f, {"layer": layer}


@step()
def positions_broadcast(draw: Draw, shape: Shape) -> Any:
    """A pooled summary beside every position."""
    if len(shape) == 1:
        return None
    dims = tuple(range(2, len(shape) + 1))
    return pick(
        draw,
        lambda m, h, y: h - h.mean(m.dims, keepdim=True),
        lambda m, h, y: torch.cat([h, h.mean(m.dims, keepdim=True).expand_as(h)], 1),
        lambda m, h, y: h.sum(1, keepdim=True) * 0.5 + h,
    ), {"dims": dims}


@step()
def label(draw: Draw, shape: Shape) -> Any:
    embed = nn.Embedding(CLASSES, shape[0])
    f = pick(
        draw,
        lambda m, h, y: h * along(m.embed(y), h),
        lambda m, h, y: h + along(m.embed(y), h),
        lambda m, h, y: torch.cat([h, along(m.embed(y), h).expand_as(h)], 1),
        lambda m, h, y: torch.where(along((y > 1)[:, None], h), h, 0.5 * h),
        lambda m, h, y: along(m.embed.weight[y], h) - h,
        lambda m, h, y: h * along(F.one_hot(y, CLASSES)[:, :1].to(h.dtype), h),
    )
    return f, {"embed": embed}


@step()
def gate(draw: Draw, shape: Shape) -> Any:
    """Activations as constants."""
    layer = nn.Linear(shape[0], shape[0])
    f = pick(
        draw,
        lambda m, h, y: h * h.detach().sigmoid(),
        lambda m, h, y: h * without_gradient(h),
        lambda m, h, y: h + h.data.tanh(),
        lambda m, h, y: h * (h > h.mean(1, keepdim=True)),
        lambda m, h, y: torch.where(h > h.detach().mean(0), h, 0.1 * h),
        lambda m, h, y: h * h.sign() + h.sign(),
        lambda m, h, y: h * float(h.detach().abs().mean()),
        lambda m, h, y: h.round() + h,
        lambda m, h, y: h * along(m.layer(h.detach().flatten(2).sum(2) if h.ndim > 2 else h.detach() * 2), h),
    )
    return f, {"layer": layer}


def without_gradient(h: Tensor) -> Tensor:
    with torch.no_grad():
        return F.layer_norm(h, h.shape[1:]).tanh() + h.softmax(0)


@step()
def noise(draw: Draw, shape: Shape) -> Any:
    return pick(
        draw,
        lambda m, h, y: h + 0.1 * torch.randn_like(h),
        lambda m, h, y: F.dropout(h, 0.3),
        lambda m, h, y: h * torch.rand(len(h), *[1] * (h.ndim - 1), dtype=h.dtype),
        lambda m, h, y: F.dropout(h * 2, 0.5, inplace=True),
        lambda m, h, y: h * (torch.rand_like(h) > 0.2),
    )
