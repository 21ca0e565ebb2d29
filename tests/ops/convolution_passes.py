"""A record of the passes of convolutions that run: PyTorch's, or those of conv1x1, conv3x3 and conv_stride2."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from fastgan.ops.convolution import conv2d

OURS = {
    torch.ops.fastgan.conv3x3.default: "forward",
    torch.ops.fastgan.conv3x3_weight_grad.default: "weight_grad",
    torch.ops.fastgan.conv1x1.default: "1x1",
    torch.ops.fastgan.conv1x1_weight_grad.default: "1x1 weight_grad",
    torch.ops.fastgan.conv_stride2.default: "stride 2",
    torch.ops.fastgan.conv_stride2_transposed.default: "transposed",
    torch.ops.fastgan.conv_stride2_weight_grad.default: "stride 2 weight_grad",
}
TORCHS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


class Passes(TorchDispatchMode):
    """Lists the passes that run by the names above, or "torch"; "turned" is 3x3's or 1x1's gradient to the input."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in OURS:
            name = OURS[function]
            self.calls.append("turned" if name in ("forward", "1x1") and args[-1] else name)
        elif function in TORCHS:
            self.calls.append("torch")
        return function(*args, **(kwargs or {}))


def passes(x, w, backend="auto", function=conv2d, **kwargs):
    """What runs for a forward and a backward pass, and for a second one."""
    leaves = [t.detach().requires_grad_() for t in (x, w)]
    with Passes() as found, fastgan.backend(backend):
        y = function(*leaves, **kwargs)
        dx, _ = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
    with found:  # the backend of the forward pass, whatever is chosen now
        torch.autograd.grad(dx.square().sum(), leaves)
    return found.calls
