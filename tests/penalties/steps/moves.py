"""What moves elements, folds the batch and takes it elsewhere."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.penalties.steps.base import Draw, Shape, Step, bias, parameter, pick, step


@step()
def rearranged_channels(draw: Draw, shape: Shape) -> Any:
    order = torch.randperm(shape[0])
    return pick(
        draw,
        lambda m, h, y: torch.cat(h.chunk(2, 1)[::-1], 1),
        lambda m, h, y: h[:, m.order],
        lambda m, h, y: h.flip(1),
        lambda m, h, y: h.index_select(1, m.order),
        lambda m, h, y: h.roll(1, 1),
        lambda m, h, y: h.cumsum(1),
        lambda m, h, y: torch.stack([h, -h.relu()], 2).flatten(1, 2),
        lambda m, h, y: torch.stack(h.unbind(1)[::-1], 1),
        lambda m, h, y: torch.cat([h[:, :1], h.split([1, h.shape[1] - 1], 1)[1] * 2], 1),
        lambda m, h, y: torch.cat([h.narrow(1, 0, 1), h], 1),
        lambda m, h, y: h[:, ::2],
        lambda m, h, y: h[:, -1:] + h,
        lambda m, h, y: h.repeat_interleave(2, 1),
        lambda m, h, y: h.roll((1, 2), (1, -1)),
        lambda m, h, y: h[:, m.order > 0] if h.shape[1] > 1 else h,
        lambda m, h, y: h.unsqueeze(1).expand(-1, 2, *h.shape[1:]).flatten(1, 2),
        lambda m, h, y: h[:, m.order, ...].clone(),
        lambda m, h, y: h[:, None].squeeze(1),
        lambda m, h, y: h[:, 0].unsqueeze(1) - h,
        lambda m, h, y: h[:, :, None].sum(2),
    ), {"order": order}


@step()
def constant_channels(draw: Draw, shape: Shape) -> Any:
    extra = bias(*shape)
    return pick(
        draw,
        lambda m, h, y: torch.cat([h, m.extra.expand(len(h), *m.extra.shape)], 1),
        lambda m, h, y: torch.stack([m.extra.expand_as(h), h], 1).flatten(1, 2),
        lambda m, h, y: torch.cat([m.extra.new_ones(h.shape), h, 2 * h], 1),
        lambda m, h, y: h + m.extra,
    ), {"extra": extra}


@step()
def transposed(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1:
        return None
    return pick(
        draw,
        lambda m, h, y: h.transpose(1, 2),
        lambda m, h, y: h.transpose(1, -1).contiguous(),
        lambda m, h, y: h.mT,
        lambda m, h, y: h.permute(0, *range(h.ndim - 1, 0, -1)),
        lambda m, h, y: h.swapaxes(-1, -2).clone(),
        lambda m, h, y: h.flatten(2),
        lambda m, h, y: h.flatten(1).unflatten(1, h.shape[1:]).flip(2),
        lambda m, h, y: h.reshape(len(h), h.shape[2], -1) if h.ndim > 2 else h,
    )


@step()
def picked_positions(draw: Draw, shape: Shape) -> Any:
    if len(shape) == 1 or min(shape[1:]) < 2:
        return None
    return pick(
        draw,
        lambda m, h, y: h[..., ::2],
        lambda m, h, y: h[:, :, [1, 0, 1]],
        lambda m, h, y: h[..., -1],
        lambda m, h, y: h[:, :, 0],
        lambda m, h, y: h.select(2, 1),
        lambda m, h, y: h[..., 1:] - h[..., :-1],
        lambda m, h, y: h.flip((1, -1)),
        lambda m, h, y: torch.diff(h, dim=-1),
        lambda m, h, y: h.unbind(2)[1],
        lambda m, h, y: h[:, [0, 0], [1, 0]],
        lambda m, h, y: h.narrow(-1, 1, 1),
        lambda m, h, y: h.tensor_split(2, -1)[0],
    )


@step()
def batch_moved(draw: Draw, shape: Shape) -> Any:
    """The batch travels to another dimension and back."""
    gain, layer = parameter(shape[0]), nn.Linear(shape[-1], shape[-1])
    return pick(
        draw,
        lambda m, h, y: F.leaky_relu(h.movedim(0, -1) * m.gain.view(-1, *[1] * (h.ndim - 1)), 0.2).movedim(-1, 0),
        lambda m, h, y: (h.transpose(0, 1) + 0.2).abs().transpose(0, 1),
        lambda m, h, y: h.transpose(0, -1).relu().transpose(0, -1),
        lambda m, h, y: m.layer(h.transpose(0, 1)).transpose(0, 1) if h.ndim > 2 else m.layer(h),
        lambda m, h, y: (
            m.layer.weight @ h.movedim(0, -1).flatten(1, -2) if h.ndim > 2 else m.layer.weight @ h.t()
        ).movedim(-1, 0)[:, :, None],
        lambda m, h, y: torch.stack([h, 2 * h.relu(), h - 1]).sum(0),
        lambda m, h, y: torch.stack([h, h.abs()]).mean(0),
        lambda m, h, y: torch.cat([h.movedim(0, 1), h.movedim(0, 1)]).movedim(1, 0),
        lambda m, h, y: h[None].squeeze(0),
        lambda m, h, y: h.unsqueeze(0).expand(2, *h.shape).sum(0),
        lambda m, h, y: h.movedim(0, -1).flatten(0, -2).relu().reshape(*h.shape[1:], len(h)).movedim(-1, 0),
    ), {"gain": gain, "layer": layer}


@step()
def batch_folded(draw: Draw, shape: Shape) -> Any:
    """Channels or positions are folded into the batch, treated alike, and unfolded."""
    kernel = bias(1, 1, *[min(2, size) for size in shape[1:]])
    layer, shift = nn.Linear(shape[-1], 3), bias(1)

    def blurred(m: Step, h: Tensor, y: Tensor) -> Tensor:
        if h.ndim == 2:
            return m.layer(h)
        convolve = F.conv1d if h.ndim == 3 else F.conv2d
        folded = convolve(h.reshape(-1, 1, *h.shape[2:]), m.kernel, m.shift)
        return F.leaky_relu(folded, 0.2).view(*h.shape[:2], *folded.shape[2:])

    return pick(
        draw,
        blurred,
        lambda m, h, y: F.relu(m.layer(h.flatten(0, -2))).unflatten(0, h.shape[:-1]),
        lambda m, h, y: F.leaky_relu(m.layer(h), 0.1) + m.shift,
        lambda m, h, y: (h.flatten(0, 1) * 2 + m.shift).unflatten(0, h.shape[:2]),
        lambda m, h, y: m.layer(h.movedim(1, 0).flatten(0, -2) if h.ndim == 2 else h.flatten(0, -2)).view(len(h), -1),
        lambda m, h, y: h.flatten().abs().view(h.shape),
        lambda m, h, y: h.reshape(2 * len(h), -1).relu().reshape(h.shape) if h[0].numel() % 2 == 0 else h,
        lambda m, h, y: F.prelu(h.flatten(0, 1), m.shift.abs()).view_as(h),
    ), {"kernel": kernel, "layer": layer, "shift": shift}


@step()
def cast(draw: Draw, shape: Shape) -> Any:
    return pick(
        draw, lambda m, h, y: h.to(torch.float64), lambda m, h, y: h.contiguous(), lambda m, h, y: h.type_as(m.one)
    ), {"one": torch.ones(1)}
