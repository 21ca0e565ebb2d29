"""Counts the convolutions of a step, ATen's and fastgan's."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan.ops  # noqa: F401  (registers its operators)

_FORWARD = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default
_OURS = (torch.ops.fastgan.conv3x3.default, torch.ops.fastgan.conv1x1.default)
_OUR_FORWARD = torch.ops.fastgan.conv_stride2.default
_OUR_BACKWARD = (
    torch.ops.fastgan.conv1x1_weight_grad.default,
    torch.ops.fastgan.conv3x3_weight_grad.default,
    torch.ops.fastgan.conv_stride2_transposed.default,  # a critic has no transposed convolutions
    torch.ops.fastgan.conv_stride2_weight_grad.default,
)


class CountConvolutions(TorchDispatchMode):
    """Inside, counts convolutions (`forward`) and the gradients that convolution's backward was asked for (`backward`).

    One call of the backward computes the gradient of the input, of the weight or of both: each is the work of a
    convolution and counts as one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forward = 0
        self.backward = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is _FORWARD:
            self.forward += 1
        elif func is _BACKWARD:
            mask = args[10] if len(args) > 10 else (kwargs or {})["output_mask"]
            self.backward += sum(mask[:2])
        elif func in _OURS:
            turned = args[-1]  # the gradient of the input
            self.forward += not turned
            self.backward += turned
        elif func is _OUR_FORWARD:
            self.forward += 1
        elif func in _OUR_BACKWARD:
            self.backward += 1
        return func(*args, **(kwargs or {}))


def convolutions(call: Callable[[], object]) -> tuple[int, int]:
    """(forward, backward) of one call."""
    with CountConvolutions() as counted:
        call()
    return counted.forward, counted.backward
