"""Rules for convolutions of any dimension, grouped or transposed."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.affine.batch import BatchDim
from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Bias, Node, Scales, Slot, Value
from fastgan.ops.convolution import autograd, passes
from fastgan.ops.convolution.passes import ConvolutionConfig

aten = torch.ops.aten

FUNCTIONS: frozenset[type] = frozenset({autograd.Convolution})


class Convolution(Node):
    """y = conv(x, w) + b."""

    pulls_new = pushes_new = True

    def __init__(
        self,
        x: Value,
        weight: Tensor,
        bias: Tensor | None,
        slots: tuple[Slot | None, Slot | None],
        config: ConvolutionConfig,
    ) -> None:
        super().__init__([x], slots[:1], slots[1:])
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach()
        self.config = config
        self.shape = x.shape

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        if self._is_stem(delta):
            columns = self.weight.flatten(1).t() @ delta.flatten(2)
            stride, padding = self.config[:2]
            return (F.fold(columns, self.shape[2:], self.weight.shape[2:], padding=padding, stride=stride),)
        # The input gives only its shape and memory order; uninitialised memory costs nothing to make.
        x = torch.empty(self.shape, dtype=delta.dtype, device=delta.device, memory_format=_memory_format(delta))
        (dx, _, _) = passes.gradients(delta, x, self.weight, self.config, (True, False, False))
        assert dx is not None
        return (dx,)

    def _is_stem(self, delta: Tensor) -> bool:
        """Whether it is a strided convolution of few channels, whose data gradient is faster by columns on the CPU."""
        stride, padding, dilation, transposed, _, groups, by = self.config
        plain = (
            by == "torch"
            and groups == 1
            and not transposed
            and set(dilation) == {1}
            and len(stride) == len(padding) == 2
        )
        return plain and delta.device.type == "cpu" and delta.ndim == 4 and self.shape[1] <= 4 and set(stride) != {1}

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y = passes.forward(us[0], self.weight, None, self.config)
        s = scales.along(self.output)
        return y if self.bias is None or s is None else add_scaled_bias(y, s, self.bias)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        return passes.gradients(delta, us[0], self.weight, self.config, (False, True, False))[1:2]

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        return (scaled_bias_gradient(delta, s),)

    def movable_bias(self) -> Bias | None:
        return None if self.bias is None else Bias(self.bias, self.constants[0])

    def leave_bias(self) -> None:
        self.bias, self.constants = None, ()


def add_scaled_bias(y: Tensor, s: Tensor, bias: Tensor) -> Tensor:
    """Adds s_i bias_c to y in place, by one number for each sample and channel: y [samples, channels, ...]."""
    of_samples = s.view(-1, 1) * bias.to(y.dtype)
    return y.add_(of_samples.view(*of_samples.shape, *[1] * (y.ndim - 2)))


def scaled_bias_gradient(delta: Tensor, s: Tensor) -> Tensor:
    """The sum over samples i and positions of s_i delta, for each channel: delta is read once, summed in float32."""
    wide = torch.promote_types(delta.dtype, torch.float32)
    of_samples = delta.sum(list(range(2, delta.ndim)), dtype=wide) if delta.ndim > 2 else delta.to(wide)
    return s.to(wide).view(-1) @ of_samples


def _memory_format(x: Tensor) -> torch.memory_format:
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    if x.ndim == 5 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last_3d):
        return torch.channels_last_3d
    return torch.contiguous_format


def convolution(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    x, weight, bias = given["input"], given["weight"], given["bias"]
    stride, padding, dilation, transposed, output_padding, groups = (given[name] for name in names[3:])
    n = weight.ndim - 2  # F.conv2d hands on padding="valid" as [0], one number for all dimensions
    sizes = [tuple(of) * n if len(of) == 1 else tuple(of) for of in (stride, padding, dilation, output_padding)]
    config = ConvolutionConfig(sizes[0], sizes[1], sizes[2], transposed, sizes[3], groups)
    return _record(recorder, func, args, kwargs, (x, weight, bias), config.chosen(x, weight, bias))


def conv3x3(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of fastgan's 3x3 convolution, which `fastgan.ops.convolution` calls."""
    x, weight, bias, padding, groups, turned = args
    if turned:
        raise NotAffineError("a gradient to the input of a convolution")
    config = ConvolutionConfig((1, 1), tuple(padding), (1, 1), False, (0, 0), groups, "minimal filtering")
    return _record(recorder, func, args, kwargs, (x, weight, bias), config)


def conv1x1(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of fastgan's 1x1 convolution."""
    x, weight, bias, turned = args
    if turned:
        raise NotAffineError("a gradient to the input of a convolution")
    config = ConvolutionConfig((1, 1), (0, 0), (1, 1), False, (0, 0), 1, "matmul")
    return _record(recorder, func, args, kwargs, (x, weight, bias), config)


def conv_stride2(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of fastgan's convolution of stride 2."""
    x, weight, bias, padding = args
    config = ConvolutionConfig((2, 2), (padding, padding), (1, 1), False, (0, 0), 1, "minimal filtering")
    return _record(recorder, func, args, kwargs, (x, weight, bias), config)


def conv_stride2_transposed(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of its transpose, which is also its gradient with respect to the input."""
    y, weight, bias, size, padding = args
    least = passes.conv_stride2.transposed_size(y, weight, padding, (0, 0))
    ends = tuple(a - b for a, b in zip(size, least, strict=True))
    config = ConvolutionConfig((2, 2), (padding, padding), (1, 1), True, ends, 1, "minimal filtering")
    return _record(recorder, func, args, kwargs, (y, weight, bias), config)


def _record(
    recorder: RuleRecorder,
    func: Any,
    args: tuple,
    kwargs: dict,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    config: ConvolutionConfig,
) -> Tensor:
    x, weight, bias = tensors
    value = recorder.find(x)
    if value is None or recorder.find(weight) is not None or (bias is not None and recorder.find(bias) is not None):
        raise NotAffineError("the weight of a convolution depends on the input")
    if value.batch.dim != 0 or x.ndim != weight.ndim:
        raise NotAffineError("a convolution runs along the samples")
    slots = recorder.slot(weight), None if bias is None else recorder.slot(bias)
    node = Convolution(value, weight, bias, slots, config)
    # The critic's own convolution, to the bit: minimal filtering rounds more, and an activation near its kink might
    # come to lie on the other side.
    return recorder.add(node, func(*args, **kwargs), BatchDim(0, value.batch.folded))


RULES: dict[Any, Rule] = {
    aten.convolution.default: convolution,
    torch.ops.fastgan.conv1x1.default: conv1x1,
    torch.ops.fastgan.conv3x3.default: conv3x3,
    torch.ops.fastgan.conv_stride2.default: conv_stride2,
    torch.ops.fastgan.conv_stride2_transposed.default: conv_stride2_transposed,
}
