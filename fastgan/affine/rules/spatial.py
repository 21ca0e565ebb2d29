"""Rules for linear operations on each feature map by itself: resampling, padding, average pooling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.errors import NotAffineError
from fastgan.affine.linear import linear
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.rules import halving
from fastgan.affine.rules.convolution import add_scaled_bias, scaled_bias_gradient
from fastgan.affine.tape import Bias, Node, Scales, Value
from fastgan.ops.upfirdn2d import autograd
from fastgan.ops.upfirdn2d.backends import Upfirdn2dConfig

aten = torch.ops.aten

FUNCTIONS: frozenset[type] = frozenset({autograd.Upfirdn2d})


def _positions(func: Any) -> int:
    """The number of trailing dimensions that an operation such as upsample_bilinear2d works along."""
    return next(n for n in (3, 2, 1) if f"{n}d" in func._schema.name)


def spatial(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    _leave_samples_alone(value, _positions(func))
    return linear(recorder, func, args, kwargs, value.batch)


class Interpolation(Node):
    """Nearest, linear or cubic resampling, whose derivative is an operator of its own."""

    pulls_new = pushes_new = True

    def __init__(self, x: Value, func: Any, size: Sequence[int], rest: tuple, plain: bool) -> None:
        super().__init__([x])
        self.func, self.size, self.rest, self.plain = func, list(size), rest, plain
        self.backward = getattr(aten, func._schema.name.removeprefix("aten::") + "_backward").default
        # Without aligned corners bilinear resampling to half the size takes the mean of 2x2 pixels.
        half = [2 * n for n in size] == list(x.shape[-2:]) and all(r in (None, 0.5) for r in rest[1:])
        self.halves = func is aten.upsample_bilinear2d.default and half and rest[0] is False and halving.pays(x)

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        if self.halves:
            return (halving.transposed(delta, self.plain),)
        return (self.backward(delta, self.size, list(self.inputs[0].shape), *self.rest),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return halving.halved(us[0], self.plain) if self.halves else self.func(us[0], self.size, *self.rest)


def upsample(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    _leave_samples_alone(value, _positions(func))
    if kwargs or func._overloadname != "default":
        return linear(recorder, func, args, kwargs, value.batch)
    node = Interpolation(value, func, args[1], args[2:], recorder.plain)
    in_slices = node.halves and not recorder.plain and halving.in_usual_order(args[0])
    y = halving.resampled(args[0], lambda images: func(images, *args[1:])) if in_slices else func(*args)
    return recorder.add(node, y, value.batch)


def shuffle(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of pixel_shuffle and its inverse, which work along the last three dimensions."""
    value = recorder.value(args[0])
    _leave_samples_alone(value, 3)
    return linear(recorder, func, args, kwargs, value.batch)


def unfold(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """Rule of im2col and col2im: [B, ...] -> [B, ...]."""
    value = recorder.value(args[0])
    if value.batch.dim != 0 or len(value.shape) != (4 if func is aten.im2col.default else 3):
        raise NotAffineError(f"{func} works along the samples")
    return linear(recorder, func, args, kwargs, value.batch)


def _leave_samples_alone(value: Value, positions: int) -> None:
    if value.batch.dim >= len(value.shape) - positions:
        raise NotAffineError(f"an operation on the last {positions} dimensions works along the samples")


class ConstantPad(Node):
    """Padding with a constant, which is an additive constant unless it is zero."""

    def __init__(self, x: Value, pad: Sequence[int], fill: float) -> None:
        super().__init__([x])
        self.pad, self.fill = list(pad), fill

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (aten.constant_pad_nd(delta, [-p for p in self.pad], 0),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y = aten.constant_pad_nd(us[0], self.pad, 0)
        s = scales.along(self.output)
        if self.fill == 0 or s is None:
            return y
        inside = aten.constant_pad_nd(torch.zeros_like(us[0]), self.pad, self.fill)
        return torch.addcmul(y, s, inside)


def constant_pad(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    touched = {len(value.shape) - 1 - i // 2 for i, p in enumerate(args[1]) if p}
    if value.batch.dim in touched:
        raise NotAffineError("the samples are padded or cut")
    fill = args[2] if len(args) > 2 else kwargs.get("value", 0)
    return recorder.add(ConstantPad(value, args[1], fill), func(*args, **kwargs), value.batch)


class Upfirdn2d(Node):
    """fastgan's upfirdn2d: its transpose is itself with other arguments."""

    pulls_new = pushes_new = True

    def __init__(self, x: Value, func: Any, f: Tensor | None, config: Upfirdn2dConfig, size: Sequence[int]) -> None:
        super().__init__([x])
        self.func, self.f, self.config, self.size = func, f, config, list(size)
        height, width = x.shape[2:]
        self.input_size = [width, height]

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (self.func(delta, self.f, *self.config.transposed(self.f), self.input_size),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self.func(us[0], self.f, *self.config, self.size)


def upfirdn2d(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    _leave_samples_alone(value, 2)
    _x, f, *config, size = args
    return recorder.add(Upfirdn2d(value, func, f, Upfirdn2dConfig(*config), size), func(*args), value.batch)


class AveragePool(Node):
    """Average pooling in two dimensions, the one that critics use; its gradient needs the input's shape only."""

    pulls_new = pushes_new = True

    def __init__(self, x: Value, rest: tuple, plain: bool) -> None:
        super().__init__([x])
        self.plain = plain
        kernel, stride, padding, ceil_mode, count_include_pad, divisor = (*rest, *(None,) * 5)[:6]
        self.rest = (
            kernel,
            stride or kernel,
            padding or [0, 0],
            bool(ceil_mode),
            count_include_pad is not False,
            divisor,
        )

        self.bias: Tensor | None = None
        halves = tuple(kernel) == tuple(self.rest[1]) == (2, 2) and not any(self.rest[2]) and divisor is None
        self.halves = halves and x.shape[-1] % 2 == 0 and x.shape[-2] % 2 == 0 and halving.pays(x)

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        if not self.halves:
            return (aten.avg_pool2d_backward(delta, self.inputs[0].placeholder(), *self.rest),)
        return (halving.transposed(delta, self.plain),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y = halving.halved(us[0], self.plain) if self.halves else aten.avg_pool2d(us[0], *self.rest)
        s = scales.along(self.output)
        return y if self.bias is None or s is None else add_scaled_bias(y, s, self.bias)

    # The average of a constant is the constant, if there is no padding: a bias is better added to fewer elements.

    @property
    def takes_bias(self) -> bool:  # type: ignore[override]
        return self.bias is None and not any(self.rest[2]) and self.rest[5] is None and len(self.output.shape) == 4

    def take_bias(self, bias: Bias) -> None:
        self.bias, self.constants = bias.tensor, (bias.slot,)

    def movable_bias(self) -> Bias | None:
        return None if self.bias is None else Bias(self.bias, self.constants[0])

    def leave_bias(self) -> None:
        self.bias, self.constants = None, ()

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        return (scaled_bias_gradient(delta, s),)


def average_pool(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value = recorder.value(args[0])
    _leave_samples_alone(value, 2)
    if kwargs:
        return linear(recorder, func, args, kwargs, value.batch)
    node = AveragePool(value, args[1:], recorder.plain)
    in_slices = node.halves and not recorder.plain and halving.in_usual_order(args[0])
    y = halving.pooled(args[0]) if in_slices else func(*args)
    return recorder.add(node, y, value.batch)


_UPSAMPLE = [f"{name}{n}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)] + [
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
]
_OTHERS = [f"{name}{n}d" for name in ("reflection_pad", "replication_pad") for n in (1, 2, 3)] + [
    *("avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
]


def _overloads(names: list[str]) -> list[Any]:
    packets = [getattr(aten, name) for name in names]
    found = [getattr(packet, overload) for packet in packets for overload in packet.overloads()]
    return [overload for overload in found if not overload._schema.is_mutable]


RULES: dict[Any, Rule] = {
    **dict.fromkeys(_overloads(_UPSAMPLE), upsample),
    **dict.fromkeys(_overloads(_OTHERS), spatial),
    **dict.fromkeys((aten.pixel_shuffle.default, aten.pixel_unshuffle.default), shuffle),
    **dict.fromkeys((aten.im2col.default, aten.col2im.default), unfold),
    aten.constant_pad_nd.default: constant_pad,
    aten.avg_pool2d.default: average_pool,
    torch.ops.fastgan.upfirdn2d.default: upfirdn2d,
}
