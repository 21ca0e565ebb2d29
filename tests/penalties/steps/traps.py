"""Steps that a recorder of operations may miss or misunderstand."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.penalties.steps.base import Draw, Shape, Step, along, parameter, pick, step


@step()
def view_in_place(draw: Draw, shape: Shape) -> Any:
    """Views made in place."""
    return pick(
        draw,
        lambda m, h, y: (h * 2).unsqueeze_(1).flatten(1, 2),
        lambda m, h, y: (h * 2)[:, None].squeeze_(1),
        lambda m, h, y: (h * 2).transpose_(1, -1),
        lambda m, h, y: (h * 2).swapdims_(1, -1),
        lambda m, h, y: (h * 2).flatten(1).t_().t(),
    )


@step()
def unfold_without_channels(draw: Draw, shape: Shape) -> Any:
    """The batch is taken for the channels of a single image."""
    if len(shape) != 3 or min(shape[1:]) < 2:
        return None
    return lambda m, h, y: (F.unfold(h.mean(1), 2) + 1).abs().view(len(h), -1)


@step()
def clamp_by_a_larger_tensor(draw: Draw, shape: Shape) -> Any:
    return lambda m, h, y: h.flatten(1).mean(1, keepdim=True).clamp(min=m.floor), {"floor": torch.linspace(-1, 1, 5)}


@step()
def cat_with_nothing(draw: Draw, shape: Shape) -> Any:
    return lambda m, h, y: torch.cat([m.nothing, h], 1), {"nothing": torch.empty(0)}


@step()
def hooked(draw: Draw, shape: Shape) -> Any:
    """A hook that scales the gradient of an activation."""

    def f(m: Step, h: Tensor, y: Tensor) -> Tensor:
        h = h * 1.5
        if h.requires_grad:
            h.register_hook(lambda g: 0.5 * g)
        return h

    return f


@step()
def changed_behind_autograd(draw: Draw, shape: Shape) -> Any:
    def f(m: Step, h: Tensor, y: Tensor) -> Tensor:
        h = h * 1.5
        h.data.mul_(2)
        return h

    return f


@step()
def gradient_inside(draw: Draw, shape: Shape) -> Any:
    """The critic differentiates something itself."""
    layer = nn.Linear(shape[-1], 1)

    def f(m: Step, h: Tensor, y: Tensor) -> Tensor:
        z = h.detach().requires_grad_()
        (g,) = torch.autograd.grad(F.softplus(m.layer(z)).sum(), z, create_graph=True)
        return h * g

    return f, {"layer": layer}


@step()
def gate_with_weights(draw: Draw, shape: Shape) -> Any:
    """Weights multiply a detached activation, whose memory autograd needs for their gradient."""
    gain = parameter(shape[0])
    return lambda m, h, y: h * (along(m.gain, h) * h.detach()), {"gain": gain}


@step()
def noise_in_a_buffer(draw: Draw, shape: Shape) -> Any:
    """A constant whose memory is written again by the next call of the critic."""
    return pick(
        draw, lambda m, h, y: h + m.buffer.normal_(), lambda m, h, y: along(m.buffer[0].normal_().flatten()[:1], h) - h
    ), {"buffer": torch.zeros(1, *shape)}


@step()
def running_mean(draw: Draw, shape: Shape) -> Any:
    def f(m: Step, h: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            m.mean.mul_(0.5).add_(h.mean(0), alpha=0.5)
        return h - m.mean

    return f, {"mean": torch.zeros(shape)}


@step(eligible=False)
def picked_apart(draw: Draw, shape: Shape) -> Any:
    """Indices with a slice in between, whose dimension comes first in the result: as many as there are samples."""
    if len(shape) != 3:
        return None
    return lambda m, h, y: h[
        :, [i % h.shape[1] for i in range(len(h))], :, [i % h.shape[3] for i in range(len(h))]
    ].mean(1)


@step()
def tied_maxima(draw: Draw, shape: Shape) -> Any:
    """Three equal elements share the derivative of amax, whose thirds must be as exact as everything."""
    return pick(
        draw,
        lambda m, h, y: torch.cat([h, h, h], 1).amax(1, keepdim=True) - h,
        lambda m, h, y: torch.stack([h, h, h]).amin(0),
        lambda m, h, y: torch.stack([h, h, h], -1).movedim(0, 1).amax((-1,)).movedim(0, 1),
        lambda m, h, y: torch.stack([h, h, h], 1).flatten(0, 0).amax(1),
    )
