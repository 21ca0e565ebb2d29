"""A stand-in in plain PyTorch, with the names and signatures of the original and none of its code."""

import contextlib

import torch.nn.functional as F

enabled = False
weight_gradients_disabled = False
calls = []


@contextlib.contextmanager
def no_weight_gradients(disable=True):
    global weight_gradients_disabled
    before, weight_gradients_disabled = weight_gradients_disabled, disable or weight_gradients_disabled
    yield
    weight_gradients_disabled = before


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    calls.append("conv2d")
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    calls.append("conv_transpose2d")
    return F.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
