"""A stand-in in plain PyTorch, with the names and signatures of the original and none of its code."""

import torch
import torch.nn.functional as F

activation_funcs = {
    "linear": (lambda x, alpha: x, 0, 1),
    "relu": (lambda x, alpha: F.relu(x), 0, 2**0.5),
    "lrelu": (F.leaky_relu, 0.2, 2**0.5),
    "tanh": (lambda x, alpha: torch.tanh(x), 0, 1),
    "swish": (lambda x, alpha: torch.sigmoid(x) * x, 0, 2**0.5),
    "sine": (lambda x, alpha: torch.sin(x), 0, 1),  # a fork's own
}
calls = []


def bias_act(x, b=None, dim=1, act="linear", alpha=None, gain=None, clamp=None, impl="cuda"):
    calls.append(act)
    function, default_alpha, default_gain = activation_funcs[act]
    if b is not None:
        x = x + b.view([-1 if i == dim else 1 for i in range(x.ndim)])
    x = function(x, default_alpha if alpha is None else alpha) * (default_gain if gain is None else gain)
    return x if clamp is None else x.clamp(-clamp, clamp)
