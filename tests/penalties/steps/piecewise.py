"""Piecewise linear functions."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from tests.penalties.steps.base import Draw, Shape, along, bias, flag, pick, step


@step()
def leaky_relu(draw: Draw, shape: Shape) -> Any:
    slope, in_place = pick(draw, 0.2, 0.01, 1.5, 0.0, -0.3), flag(draw)
    if in_place:
        slope = abs(slope)
    # In place on what an operation has just made, as in networks: convolution, activation.
    return lambda m, h, y: F.leaky_relu(1.1 * h if m.in_place else h, m.slope, m.in_place), {
        "slope": slope,
        "in_place": in_place,
    }


@step()
def relu(draw: Draw, shape: Shape) -> Any:
    act = pick(draw, torch.relu, F.relu, lambda h: F.relu_(h + 0.1), lambda h: (h + 0.1).relu_(), nn.ReLU())
    return lambda m, h, y: m.act(h), {"act": act}


@step()
def bounded(draw: Draw, shape: Shape) -> Any:
    act = pick(
        draw,
        F.relu6,
        F.hardtanh,
        lambda h: F.hardtanh(h, -2, 0.5),
        lambda h: h.clamp(-0.4, 0.8),
        lambda h: h.clamp(min=-0.2),
        lambda h: h.clamp(max=0.3),
        lambda h: F.threshold(h, -0.1, 0.4),
        lambda h: (h * 2).clamp_(-1, 1),
        lambda h: (h * 2).clamp_(max=1),
        lambda h: F.hardtanh_(h * 2),
        lambda h: F.threshold_(h * 2, 0.1, -1),
        lambda h: h.clip(0, 1),
        lambda h: h.clamp_min(-0.1),
    )
    return lambda m, h, y: m.act(h), {"act": act}


@step()
def absolute(draw: Draw, shape: Shape) -> Any:
    return pick(draw, lambda m, h, y: h.abs(), lambda m, h, y: (h * 2).abs_(), lambda m, h, y: h.relu() + (-h).relu())


@step()
def prelu(draw: Draw, shape: Shape) -> Any:
    act = nn.PReLU(pick(draw, 1, shape[0]))
    return lambda m, h, y: m.act(h), {"act": act}


@step()
def bias_act(draw: Draw, shape: Shape) -> Any:
    act = fastgan.nn.BiasAct(shape[0], act=pick(draw, "lrelu", "relu", "linear"), clamp=pick(draw, None, 0.5))
    nn.init.normal_(act.bias)
    return lambda m, h, y: m.act(h), {"act": act}


@step()
def larger_or_smaller(draw: Draw, shape: Shape) -> Any:
    floor = bias(shape[0])
    f = pick(
        draw,
        lambda m, h, y: torch.maximum(h, along(m.floor, h)),
        lambda m, h, y: torch.minimum(h, along(m.floor, h)),
        lambda m, h, y: torch.max(h, 0.5 * h.flip(1)),
        lambda m, h, y: torch.minimum(h, -h),
        lambda m, h, y: torch.maximum(h.relu(), (-h).relu()),
        lambda m, h, y: torch.fmax(h, along(m.floor, h)),
    )
    return f, {"floor": floor}


@step()
def choice(draw: Draw, shape: Shape) -> Any:
    other = bias(shape[0])
    f = pick(
        draw,
        lambda m, h, y: torch.where(h > 0, h, 0.3 * h + 0.1),
        lambda m, h, y: torch.where(h > 0.1, h, along(m.other, h)),
        lambda m, h, y: torch.where(h > 0.1, along(m.other, h), h),
        lambda m, h, y: h.masked_fill(h < 0, 0.5),
        lambda m, h, y: h.masked_fill(h < 0, m.other[0]),
        lambda m, h, y: (1 * h).masked_fill_(h > 0.5, 0.5),
        lambda m, h, y: torch.where(h > 0, h, 0.0),
        lambda m, h, y: h * (h > 0),
    )
    return f, {"other": other}


@step()
def maxout(draw: Draw, shape: Shape) -> Any:
    if shape[0] % 2:
        return None
    return pick(
        draw,
        lambda m, h, y: torch.maximum(*h.chunk(2, 1)),
        lambda m, h, y: h.unflatten(1, (-1, 2)).max(2).values,
        lambda m, h, y: h.unflatten(1, (2, -1)).min(1).values,
    )
