"""Says how a self-attention block of another code base is run with fastgan.ops.attention, and what it is made of."""

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fastgan.acceleration.foreign import Settings, attributes_of, is_plain, settings_of
from fastgan.acceleration.substitute import torch_class
from fastgan.ops.attention import attention


class Plan(NamedTuple):
    """What the parts of a block are to it, by their names, and what it does between them."""

    convolutions: tuple[str, ...]  # that of the queries, of the keys and of the values, in the order of their calls
    query: str
    key: str
    value: str
    out: str | None  # the convolution of what is attended to
    gamma: str
    pooled: bool  # the maxima of 2x2 keys and values
    scale: float
    pixels_first: bool  # what is attended to is an image with its channels innermost in memory
    image_first: bool  # x + gamma * o rather than gamma * o + x: the result lies in memory as the first one does


def attend(block: nn.Module, plan: Plan, x: Tensor) -> Tensor:
    """x + gamma o(attention(q(x), pool(k(x)), pool(v(x)))).

    Args:
        block: a module whose parts have the plan's names.
        plan: what they are.
        x: [B, C, H, W], floating point, H and W even if the plan pools.

    Returns:
        [B, C, H, W] in the dtype of x, in the memory order of the block's own.
    """
    images = {name: getattr(block, name)(x) for name in plan.convolutions}
    queries, keys, values = images[plan.query], images[plan.key], images[plan.value]
    if plan.pooled:
        keys, values = F.max_pool2d(keys, 2), F.max_pool2d(values, 2)
    q, k, v = (y.flatten(2).transpose(1, 2) for y in (queries, keys, values))
    mixed = attention(q, k, v, scale=plan.scale).transpose(1, 2)
    mixed = (mixed if plan.pixels_first else mixed.contiguous()).unflatten(2, x.shape[2:])
    if plan.out is not None:
        mixed = getattr(block, plan.out)(mixed)
    mixed = getattr(block, plan.gamma) * mixed
    return x + mixed if plan.image_first else mixed + x


def convolution_in(module: nn.Module | None) -> nn.Conv2d | None:
    """The 1x1 convolution that a child of a block is, or is a wrapper of (a spectral norm's); None for any other."""
    if not isinstance(module, nn.Conv2d):
        children = [] if module is None else list(module.children())
        if len(children) != 1 or not isinstance(children[0], nn.Conv2d):
            return None
        module = children[0]
    keeps_size = module.kernel_size == (1, 1) and module.stride == (1, 1) and module.padding == (0, 0)
    return module if keeps_size and module.in_channels > 0 else None  # a lazy one has none yet


def gamma_of(block: nn.Module) -> str | None:
    """The name of the one number that is the only parameter of the block's own; None if there are others."""
    own = {name: p for name, p in block._parameters.items() if p is not None}
    ((name, p),) = own.items() if len(own) == 1 else ((None, None),)
    return name if p is not None and not is_lazy(p) and p.numel() == 1 and p.is_floating_point() else None


def looks_like_attention(block: nn.Module) -> bool:
    """Whether a module has three or four 1x1 convolutions, and a number as its only parameter."""
    convolutions = [child for child in block._modules.values() if convolution_in(child) is not None]
    return gamma_of(block) is not None and len(set(convolutions)) == len(convolutions) in (3, 4)


def description_of(block: nn.Module) -> tuple:
    """All that is known of a block but the numbers in it: a plan is for blocks of one description.

    An attribute that is no plain data counts by its name alone: `find_plan` has shown that the block runs without it.
    """
    children = tuple((name, _description_of_child(child)) for name, child in block._modules.items())
    return settings_without_objects(block), tuple(block._parameters), tuple(block._buffers), children


def _description_of_child(child: nn.Module | None) -> Any:
    convolution = convolution_in(child)
    if child is None or convolution is not None:
        return None if convolution is None else (convolution.in_channels, convolution.out_channels)
    contents = tuple(child._parameters), tuple(child._buffers), tuple(child._modules)
    return torch_class(child), settings_without_objects(child), contents


def objects_of(module: nn.Module) -> list[str]:
    """The names of the attributes that are no plain data."""
    return [name for name, value in attributes_of(module).items() if not is_plain(value)]


def settings_without_objects(module: nn.Module) -> Settings:
    return settings_of(module, apart=objects_of(module))[0]
