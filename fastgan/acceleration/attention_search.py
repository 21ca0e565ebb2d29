"""Finds the plan by which a self-attention block computes what it does, or why there is none.

A copy of the block is made whose convolutions are others, of random numbers in float64: neither hooks nor spectral
norms run. Its own forward tells which convolutions it calls with what; whether a plan computes the same, values and
two derivatives do, at several sizes, in both modes, and for several gamma: at 0, where training begins, the block is
the identity whatever it does.
"""

import copy
import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastgan._torch_private import tree_leaves
from fastgan.acceleration.attention_plan import Plan, attend, convolution_in, description_of, gamma_of, objects_of
from fastgan.acceleration.foreign import TOLERANCE, attributes_of, verifying
from fastgan.acceleration.substitute import base_class
from fastgan.backends import backend
from fastgan.errors import one_line

Forward = Callable[..., Any]
"""The forward of a block's class."""

_SIZES = ((2, 4, 6), (3, 6, 2), (1, 2, 2))  # batch, height, width
_ODD_SIZES = ((2, 3, 5),)
_GAMMAS = (0.7, -1.3, 0.0)  # another sign, for those that make it positive; 0, for those that skip attention then


def find_plan(block: nn.Module) -> tuple[Plan | None, str]:
    """The plan that computes the same as the block's forward, or the reason why there is none.

    Args:
        block: a module that `looks_like_attention`. It is not run and not changed.
    """
    if block._buffers:
        return None, "has buffers in it, which self-attention has not"
    for name, child in block._modules.items():
        if convolution_in(child) is None and child is not None and any(_contents(child)):
            return None, f"has {name} in it besides its convolutions, of which fastgan.ops.attention knows nothing"
    try:
        with verifying(), backend("auto"):
            return _find_plan(block)
    except Exception as error:
        return None, f"could not be run on a copy in float64: {one_line(error)}"


def _contents(module: nn.Module) -> tuple[Any, ...]:
    return module._parameters, module._buffers, module._modules


def _find_plan(block: nn.Module) -> tuple[Plan | None, str]:
    generator = torch.Generator().manual_seed(0)
    theirs = _copy_of(block, generator)
    kind: Any = base_class(block)
    forward: Forward = kind.forward
    before = description_of(theirs)
    calls, reason = _calls_of(forward, theirs, generator)
    if reason:
        return None, reason
    plan, difference = _search(forward, theirs, calls, generator)
    if difference <= TOLERANCE and plan is not None:
        difference = max(_differences(forward, theirs, plan, generator))
    if description_of(theirs) != before:
        return None, "changes its attributes as it runs: who reads them would miss what it keeps there"
    if difference > TOLERANCE or plan is None:
        return None, f"looks like self-attention but computes something else (differs by {difference:.1g})"
    return plan, ""


# --- the copy ---------------------------------------------------------------------------------------------------------


def _copy_of(block: nn.Module, generator: torch.Generator) -> nn.Module:
    """A block of the same class and plain attributes, of other numbers; without other attributes, without hooks."""
    copied = _bare(block)
    for name, child in block._modules.items():
        convolution = convolution_in(child)
        if convolution is not None:
            copied._modules[name] = _random(convolution, generator)
        else:
            copied._modules[name] = None if child is None else _bare(child)
    for name, p in block._parameters.items():
        shape = None if p is None else p.shape
        copied._parameters[name] = None if shape is None else nn.Parameter(_normal(shape, generator))
    return copied


def _bare(module: nn.Module) -> Any:
    """A module of the same class, in the place of whose `__init__` the plain attributes are copied."""
    kind: Any = base_class(module)
    found = kind.__new__(kind)
    nn.Module.__init__(found)
    objects = objects_of(module)
    kept = {name: value for name, value in attributes_of(module).items() if name in vars(module)}
    vars(found).update({name: copy.deepcopy(value) for name, value in kept.items() if name not in objects})
    return found


def _random(convolution: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    """A convolution whose products with another of as many outputs are of order one."""
    inputs, outputs = convolution.in_channels, convolution.out_channels
    found = nn.Conv2d(inputs, outputs, 1, device="cpu", dtype=torch.float64)
    found.weight = nn.Parameter(_normal((outputs, inputs, 1, 1), generator) / (inputs**0.5 * outputs**0.25))
    found.bias = nn.Parameter(_normal((outputs,), generator) / outputs**0.25)
    return found


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device="cpu", dtype=torch.float64)


# --- what it calls ----------------------------------------------------------------------------------------------------


def _calls_of(forward: Forward, theirs: nn.Module, generator: torch.Generator) -> tuple[list[tuple[str, bool]], str]:
    """The convolutions in the order of their calls, and whether each was given the image; or why they are not ours."""
    x = _image(theirs, _SIZES[0], generator)
    found: list[list[tuple[str, bool]]] = []
    for training in (True, False):
        calls: list[tuple[str, bool]] = []
        handles = [_record(name, child, x, calls) for name, child in _convolutions(theirs)]
        random = torch.get_rng_state()
        y = forward(theirs.train(training), x)
        for handle in handles:
            handle.remove()
        if not torch.equal(random, torch.get_rng_state()):
            return [], "draws random numbers"
        if not isinstance(y, Tensor):
            return [], _why_not_of(y, x)
        found.append(calls)
    images = [name for name, given in found[0] if given]
    names = {name for name, _ in found[0]}
    if found[0] != found[1] or len(images) != 3 or not len(names) == len(found[0]) <= 4:
        return [], "does not call three 1x1 convolutions with its image, once each, and at most one with what they give"
    return found[0], ""


def _record(name: str, module: nn.Module, x: Tensor, calls: list[tuple[str, bool]]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls.append((name, len(args) == 1 and args[0].shape == x.shape and torch.equal(args[0], x)))

    return module.register_forward_pre_hook(hook)


def _why_not_of(y: Any, x: Tensor) -> str:
    """Why a block is left that returns no tensor."""
    pixels = x.shape[2] * x.shape[3]
    if any(isinstance(t, Tensor) and t.ndim > 2 and t.shape[-2] == pixels for t in tree_leaves(y)):
        return "hands out its attention matrix, which fastgan.ops.attention never has as a whole"
    return f"returns a {type(y).__name__}, not a tensor"


def _convolutions(block: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    return ((name, child) for name, child in block._modules.items() if isinstance(child, nn.Conv2d))


def _image(block: nn.Module, size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    channels = statistics.mode(convolution.in_channels for _, convolution in _convolutions(block))
    return _normal((size[0], channels, *size[1:]), generator)


# --- what it computes -------------------------------------------------------------------------------------------------


def _search(
    forward: Forward, theirs: nn.Module, calls: list[tuple[str, bool]], generator: torch.Generator
) -> tuple[Plan | None, float]:
    """The first plan whose values, and their order in memory, are the block's; or the least difference of any."""
    x = _image(theirs, _SIZES[0], generator)
    images = [x, x.contiguous(memory_format=torch.channels_last)]
    _set_gamma(theirs, _GAMMAS[0])
    expected = [forward(theirs, image) for image in images]
    least = math.inf
    for plan in _plans(theirs, calls):
        found = [attend(theirs, plan, image) for image in images]
        difference = max(map(_difference, found, expected))
        least = min(least, difference)
        if difference <= TOLERANCE and all(a.stride() == b.stride() for a, b in zip(found, expected, strict=True)):
            return plan, difference
    return None, least


def _plans(block: nn.Module, calls: list[tuple[str, bool]]) -> Iterator[Plan]:
    """The plans that the convolutions' widths allow."""
    convolutions = dict(_convolutions(block))
    width = {name: convolution.out_channels for name, convolution in convolutions.items()}
    images = tuple(name for name, given in calls if given)
    out = next((name for name, given in calls if not given), None)
    mixed = convolutions[images[0] if out is None else out].in_channels
    for query, key, value in itertools.permutations(images):
        if width[query] != width[key] or width[value] != mixed:
            continue
        roles = Plan(images, query, key, value, out, str(gamma_of(block)), False, 1.0, False, False)
        scales = (1.0, width[query] ** -0.5)
        for pooled, scale, *order in itertools.product((False, True), scales, (False, True), (False, True)):
            yield roles._replace(pooled=pooled, scale=scale, pixels_first=order[0], image_first=order[1])


def _differences(forward: Forward, theirs: nn.Module, plan: Plan, generator: torch.Generator) -> Iterator[float]:
    """The differences of values and of two derivatives, over sizes, modes and gamma."""
    sizes = _SIZES if plan.pooled else _SIZES + _ODD_SIZES
    for size, training, gamma in itertools.product(sizes, (True, False), _GAMMAS):
        theirs.train(training)
        _set_gamma(theirs, gamma)
        x = _image(theirs, size, generator)
        dy = _normal(x.shape, generator)
        expected = _derivatives(lambda x: forward(theirs, x), theirs, x, dy)
        found = _derivatives(lambda x: attend(theirs, plan, x), theirs, x, dy)
        yield max(map(_difference, found, expected))


def _set_gamma(block: nn.Module, gamma: float) -> None:
    with torch.no_grad():
        block.get_parameter(str(gamma_of(block))).fill_(gamma)


def _derivatives(function: Callable[[Tensor], Tensor], block: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    """The values, their gradients, and those of the gradients' squares."""
    inputs = [x.clone().requires_grad_(), *block.parameters()]
    y = function(inputs[0])
    first = torch.autograd.grad(y, inputs, dy, create_graph=True, allow_unused=True)
    squares = torch.stack([g.square().sum() for g in first if g is not None]).sum()
    second = torch.autograd.grad(squares, inputs, allow_unused=True) if squares.requires_grad else [None] * len(inputs)
    pairs = zip((*first, *second), (*inputs, *inputs), strict=True)
    return [y.detach(), *(torch.zeros_like(p) if g is None else g.detach() for g, p in pairs)]


def _difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors beside the largest number in them."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    found = float((a - b).detach().abs().max() / (1 + b.detach().abs().max()))
    return found if found == found else math.inf
