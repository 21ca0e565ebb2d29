"""Drop-in layers over fastgan.ops."""

from fastgan.nn.bias_act import BiasAct
from fastgan.nn.minibatch_discrimination import MinibatchDiscrimination

__all__ = ["BiasAct", "MinibatchDiscrimination"]
