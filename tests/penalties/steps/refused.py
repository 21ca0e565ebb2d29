"""What is not piecewise affine, or not sample by sample."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.penalties.steps.base import Draw, Shape, Step, flag, pick, step


@step(eligible=False)
def smooth(draw: Draw, shape: Shape) -> Any:
    act = pick(
        draw,
        torch.tanh,
        F.softplus,
        F.silu,
        F.gelu,
        F.elu,
        torch.sigmoid,
        torch.sin,
        lambda h: (h / 4).exp(),
        F.mish,
        lambda h: (h * 2).tanh_(),
        lambda h: h.relu().add(1).sqrt(),
        lambda h: h.abs().add(1).log(),
        F.hardswish,
        lambda h: F.bilinear(h, h, torch.ones(3, h.shape[-1], h.shape[-1], dtype=h.dtype)),
        lambda h: h.logcumsumexp(1),
    )
    return lambda m, h, y: m.act(h), {"act": act}


@step(eligible=False)
def other_piecewise(draw: Draw, shape: Shape) -> Any:
    """Piecewise linear, but perhaps without a rule."""
    return pick(
        draw,
        lambda m, h, y: F.softshrink(h),
        lambda m, h, y: F.hardshrink(h),
        lambda m, h, y: F.hardsigmoid(h),
        lambda m, h, y: F.rrelu(h, training=True),
        lambda m, h, y: h.sort(1).values,
        lambda m, h, y: h.topk(1, 1).values,
        lambda m, h, y: h.median(1, keepdim=True).values,
        lambda m, h, y: h.remainder(0.7),
        lambda m, h, y: h.frac(),
        lambda m, h, y: h.nan_to_num(),
        lambda m, h, y: h.tril(),
        lambda m, h, y: h.gather(1, h.argmax(1, keepdim=True)),
        lambda m, h, y: h.repeat(1, *[2] * (h.ndim - 1)),
        lambda m, h, y: h.unfold(1, 1, 1).sum(-1),
        lambda m, h, y: torch.fmin(h, h * 0.5),
        lambda m, h, y: torch.lerp(h, h.abs(), torch.full_like(h, 0.2)),
        lambda m, h, y: h.copysign(h.abs()),
        lambda m, h, y: torch.baddbmm(
            torch.ones(1, 1, 1, dtype=h.dtype),
            h.flatten(2) if h.ndim > 2 else h[:, :, None],
            torch.ones(len(h), h[0, 0].numel(), 2, dtype=h.dtype),
        ),
        lambda m, h, y: h.as_strided(h.shape, h.stride()) if h.is_contiguous() else h,
        lambda m, h, y: h.clone().index_fill_(1, torch.tensor([0]), 0.3),
    )


@step(eligible=False)
def normalised(draw: Draw, shape: Shape) -> Any:
    norm = nn.LayerNorm(shape[-1])
    return pick(
        draw,
        lambda m, h, y: F.layer_norm(h, h.shape[1:]),
        lambda m, h, y: m.norm(h),
        lambda m, h, y: F.group_norm(h, 1),
        lambda m, h, y: h / (1 + h.abs().mean(1, keepdim=True)),
        lambda m, h, y: F.normalize(h + 0.1, dim=1),
        lambda m, h, y: h.softmax(1),
        lambda m, h, y: h / (h.square().mean(1, keepdim=True) + 1).sqrt(),
        lambda m, h, y: h - h.std(1, keepdim=True, correction=0),
        lambda m, h, y: h.norm(dim=1, keepdim=True) + h,
    ), {"norm": norm}


@step(eligible=False)
def product(draw: Draw, shape: Shape) -> Any:
    layer = nn.Linear(shape[-1], shape[-1])
    return pick(
        draw,
        lambda m, h, y: h * h,
        lambda m, h, y: h * m.layer(h).sigmoid(),
        lambda m, h, y: h.square(),
        lambda m, h, y: h * h.mean(1, keepdim=True),
        lambda m, h, y: h**3 / 4,
        lambda m, h, y: h * h.amax(),
        lambda m, h, y: m.layer(h).mul_(h),
        lambda m, h, y: 1 / (2 + h.abs()),
        lambda m, h, y: F.linear(h, h.flatten(0, -2)[:1]),
        lambda m, h, y: torch.addcmul(h, h, h),
        lambda m, h, y: h * F.glu(torch.cat([h, h], 1), 1),
    ), {"layer": layer}


@step(eligible=False)
def attention(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1:
        return None
    return lambda m, h, y: F.scaled_dot_product_attention(h.flatten(2), h.flatten(2), h.flatten(2))


@step(eligible=False)
def batch_norm_training(draw: Draw, shape: Shape) -> Any:
    kind = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[len(shape) - 1]
    norm = kind(shape[0], affine=flag(draw), track_running_stats=flag(draw))
    if not norm.track_running_stats and flag(draw):
        norm.eval()
    return lambda m, h, y: m.norm(h) if h.numel() > h.shape[1] else h, {"norm": norm}


@step(eligible=False)
def samples_mixed(draw: Draw, shape: Shape) -> Any:
    return pick(
        draw,
        lambda m, h, y: h - h.mean(0),
        lambda m, h, y: h - 0.5 * h.mean(0, keepdim=True),
        lambda m, h, y: h + h.roll(1, 0),
        lambda m, h, y: h.flip(0),
        lambda m, h, y: h[torch.arange(len(h) - 1, -1, -1)],
        lambda m, h, y: h.roll(1),
        lambda m, h, y: h.cumsum(0),
        lambda m, h, y: h.amax(0) - h,
        lambda m, h, y: (h.movedim(0, -1) @ torch.ones(len(h), len(h), dtype=h.dtype)).movedim(-1, 0),
        lambda m, h, y: h[:1] + h,
        lambda m, h, y: torch.cat([h[1:], h[:1]]),
        lambda m, h, y: h.movedim(0, -1).reshape(h.shape).relu(),
        lambda m, h, y: h.max() - h,
        lambda m, h, y: h * 2 if h.sum() > 0 else h * 3,
        lambda m, h, y: h.softmax(0),
        lambda m, h, y: (torch.ones(len(h), len(h), dtype=h.dtype) @ h.flatten(1)).view(h.shape),
        lambda m, h, y: h + h.flatten(1).std(0, correction=0).mean(),
        lambda m, h, y: F.linear(h.transpose(0, -1), torch.eye(len(h), dtype=h.dtype).roll(1, 0)).transpose(0, -1),
        lambda m, h, y: torch.where((y > 1).any(), h.sort(0).values, h),
    )


@step(eligible=False)
def written(draw: Draw, shape: Shape) -> Any:
    """Elements written into other tensors."""

    def buffered(m: Step, h: Tensor, y: Tensor) -> Tensor:
        out = torch.zeros_like(h)
        out[:, :1] = h[:, :1]
        return out + h

    def through_a_view(m: Step, h: Tensor, y: Tensor) -> Tensor:
        h = 1 * h
        h[:, :1].mul_(3)
        return h

    def base(m: Step, h: Tensor, y: Tensor) -> Tensor:
        h = 1 * h
        v = h[:, :1]
        h.mul_(3)
        return h + v

    def assigned(m: Step, h: Tensor, y: Tensor) -> Tensor:
        h = 1 * h
        h[:, 0] = 0.5
        return h

    return pick(draw, buffered, through_a_view, base, assigned)


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


@step(eligible=False)
def own_backward(draw: Draw, shape: Shape) -> Any:
    return lambda m, h, y: Reversal.apply(h)
