"""Rules for batch normalisation in evaluation mode, where its statistics are constants."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Node, Scales, Slot, Value

aten = torch.ops.aten


class Normalisation(Node):
    """y = (x - mean) / std * weight + bias, channel by channel."""

    def __init__(
        self,
        x: Value,
        mean: Tensor,
        inverse: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        slots: Sequence[Slot | None],
    ) -> None:
        super().__init__([x], slots[:1], slots[1:])
        self.mean, self.inverse = mean, inverse
        self.weight = None if weight is None else weight.detach()
        self.bias = None if bias is None else bias.detach()

    def _along(self, c: Tensor) -> Tensor:
        return c.view(-1, *[1] * (len(self.output.shape) - 2))

    def _factor(self) -> Tensor:
        return self._along(self.inverse if self.weight is None else self.inverse * self.weight)

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return ((delta * self._factor()).to(self.inputs[0].dtype),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y = us[0] * self._factor()
        s = scales.along(self.output)
        if s is not None:
            constant = -self._along(self.mean) * self._factor()
            y = y + s * (constant if self.bias is None else constant + self._along(self.bias))
        return y.to(self.output.dtype)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        centred = us[0] if s is None else us[0] - s * self._along(self.mean)
        return ((delta * centred).sum([0, *range(2, delta.ndim)]) * self.inverse,)

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        return ((delta * s).sum([0, *range(2, delta.ndim)]),)


def native_batch_norm(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Any:
    x, weight, bias, mean, var, training, _, eps = args
    if training or mean is None:
        raise NotAffineError("batch normalisation in training couples the samples")
    value = recorder.value(x)
    if value.batch.dim == 1 or any(recorder.find(t) is not None for t in (weight, bias, mean, var)):
        raise NotAffineError("batch normalisation whose constants depend on the input")
    inverse = (var + eps).rsqrt()
    slots = [None if t is None else recorder.slot(t) for t in (weight, bias)]
    result = func(*args, **kwargs)
    recorder.add(Normalisation(value, mean.clone(), inverse, weight, bias, slots), result[0], value.batch)
    return result


def cudnn_batch_norm(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Any:
    return native_batch_norm(recorder, func, args, kwargs)


RULES: dict[Any, Rule] = {
    aten.native_batch_norm.default: native_batch_norm,
    aten.cudnn_batch_norm.default: cudnn_batch_norm,
    aten.miopen_batch_norm.default: cudnn_batch_norm,
}
