"""Rules for relu, leaky_relu and bias_act: one mask bit per element, replayed by fused kernels.

At a kink the slope is PyTorch's: that of the negative side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Bias, Node, Scales, Slot, Value
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.layout import along
from fastgan.ops.bias_act.autograd import BiasAct
from fastgan.ops.frozen_bias_act.passes import BiasActArguments, FrozenPasses

aten = torch.ops.aten

FUNCTIONS = frozenset({BiasAct})


class FusedActivation(Node):
    """The activation by fused kernels; it may take over the bias of the convolution before it (`Tape.finish`)."""

    def __init__(
        self, x: Value, b: Tensor | None, passes: FrozenPasses, arguments: BiasActArguments, slot: Slot | None
    ) -> None:
        super().__init__([x], (), (slot,))
        self.b = None if b is None else b.detach()
        self.passes, self.arguments = passes, arguments

    def take_bias(self, bias: Bias) -> None:
        self.b, self.constants = bias.tensor, (bias.slot,)

    @property
    def takes_bias(self) -> bool:  # type: ignore[override]
        return self.b is None and self.arguments.dim == 1

    pulls_new = pushes_new = True

    def pull(self, delta: Tensor, scales: Scales, overwrite: bool = False) -> Sequence[Tensor]:
        wanted = self.constants[0] is not None and scales.s is not None
        du, self._db = self.passes.pull(delta, scales.s, wanted, overwrite)
        return (du,)

    def pull_over(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return self.pull(delta, scales, overwrite=True)

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        return (self._db,)  # summed in the same pass

    def push(self, us: Sequence[Tensor], scales: Scales, overwrite: bool = False) -> Tensor:
        u, s, b = us[0], scales.s, self.b
        if s is None:  # every constant is multiplied by zero
            b = None
            s = u.new_zeros(1) if self.arguments.clamp is not None else None
        return self.passes.push(u, b, s, overwrite)

    def push_over(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self.push(us, scales, overwrite=True)


class PlainActivation(Node):
    """The same in torch's operations: for a compiler to fuse, and where the batch dimension is not the first."""

    def __init__(
        self, x: Value, b: Tensor | None, pre: Tensor, y: Tensor, arguments: BiasActArguments, slot: Slot | None
    ) -> None:
        super().__init__([x], (), (slot,))
        self.b = None if b is None else b.detach()
        self.arguments = arguments
        self.positive = pre > 0
        self.negative_slope = {"linear": 1.0, "relu": 0.0, "lrelu": arguments.alpha or 0.0}[arguments.act]
        self.reached = None if arguments.clamp is None else y.abs() >= torch.full((), arguments.clamp, dtype=y.dtype)
        self.bounds = None if self.reached is None else torch.where(self.reached, y, 0)

    def _slope(self, x: Tensor) -> Tensor:
        y = torch.where(self.positive, x, x * self.negative_slope if self.negative_slope else 0)
        y = y if self.arguments.gain == 1 else y * self.arguments.gain
        return y if self.reached is None else torch.where(self.reached, 0, y)

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (self._slope(delta),)

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        return ((self._slope(delta) * s).sum([d for d in range(delta.ndim) if d != self.arguments.dim]),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        u, s = us[0], scales.along(self.output)
        if s is not None and self.b is not None:
            u = u + s * along(self.b.to(u.dtype), self.arguments.dim, u.ndim)
        y = self._slope(u)
        return y if s is None or self.bounds is None else y + s * self.bounds


def _record(
    recorder: RuleRecorder,
    func: Any,
    args: tuple,
    kwargs: dict,
    b: Tensor | None,
    arguments: BiasActArguments,
    in_place: bool = False,
) -> Tensor:
    x = args[0]
    value, slot = recorder.value(x), None if b is None else recorder.slot(b)
    if value.batch.dim == arguments.dim and b is not None:
        raise NotAffineError("the bias of an activation runs along the samples")
    if recorder.plain or value.batch.dim != 0 or (arguments.alpha or 0) < 0:
        pre = x.detach()
        if b is not None:
            pre = pre + along(b.detach().to(x.dtype), arguments.dim, x.ndim)
        positive = pre.clone() if in_place else pre
        y = func(*args, **kwargs)
        plain = PlainActivation(value, b, positive, y.detach(), arguments, slot)
        return recorder.add(plain, y, value.batch, changed=in_place)
    with torch.no_grad():
        passes = FrozenPasses(x, b, arguments, in_place)
    node = FusedActivation(value, b, passes, arguments, slot)
    return recorder.add(node, passes.take_result(), value.batch, changed=in_place)


def leaky_relu(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
    return _record(
        recorder, func, args, kwargs, None, BiasActArguments("lrelu", slope, 1.0), func is aten.leaky_relu_.default
    )


def relu(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _record(recorder, func, args, kwargs, None, BiasActArguments("relu", None, 1.0), func is aten.relu_.default)


def bias_act(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    x, b, dim, act, alpha, gain, clamp = args[:7]
    if ACTIVATIONS[act].curvature is not None:
        raise NotAffineError(f"bias_act with the activation {act} is not piecewise linear")
    if recorder.find(x) is None or (b is not None and recorder.find(b) is not None):
        raise NotAffineError("the bias of bias_act depends on the input")
    arguments = BiasActArguments(act, alpha if act == "lrelu" else None, gain, clamp, dim)
    return _record(recorder, func, args, kwargs, b, arguments)


RULES: dict[Any, Rule] = {
    aten.leaky_relu.default: leaky_relu,
    aten.leaky_relu_.default: leaky_relu,
    aten.relu.default: relu,
    aten.relu_.default: relu,
    torch.ops.fastgan.bias_act.default: bias_act,
}
