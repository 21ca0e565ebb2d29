"""Differentiable functions over the compiled kernels, one file per op."""

from fastgan.ops.bias_act import bias_act
from fastgan.ops.minibatch_discrimination import minibatch_discrimination

__all__ = ["bias_act", "minibatch_discrimination"]
