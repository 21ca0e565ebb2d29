"""Layers that are spectrally normalised: by torch's two norms, and stand-ins for those of other code bases.

The stand-ins have the names and shapes of the buffers and methods of mimicry's and BigGAN-PyTorch's.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as hook_norm


class MimicryNorm:
    def start(self, rows):
        self.num_iters, self.eps = 1, 1e-12
        self.register_buffer("sn_u", torch.randn(1, rows))
        self.register_buffer("sn_sigma", torch.ones(1))

    def sn_weights(self):
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            u = self.sn_u
            for _ in range(self.num_iters):
                v = F.normalize(u @ matrix, eps=self.eps)
                u = F.normalize(v @ matrix.t(), eps=self.eps)
        sigma = u @ (matrix @ v.t())
        if self.training:
            with torch.no_grad():
                self.sn_sigma.copy_(sigma.view(1))
                self.sn_u.copy_(u)
        return self.weight / sigma


class MimicryConv2d(nn.Conv2d, MimicryNorm):
    def __init__(self, *args, **kwargs):
        nn.Conv2d.__init__(self, *args, **kwargs)
        self.start(self.out_channels)

    def forward(self, x):
        return F.conv2d(x, self.sn_weights(), self.bias, self.stride, self.padding, self.dilation, self.groups)


class MimicryLinear(nn.Linear, MimicryNorm):
    def __init__(self, *args, **kwargs):
        nn.Linear.__init__(self, *args, **kwargs)
        self.start(self.out_features)

    def forward(self, x):
        return F.linear(x, self.sn_weights(), self.bias)


class BigGANNorm:
    transpose = False

    def start(self, rows, num_svs=1, num_itrs=1):
        self.num_svs, self.num_itrs, self.eps = num_svs, num_itrs, 1e-6
        for i in range(num_svs):
            self.register_buffer(f"u{i}", torch.randn(1, rows))
            self.register_buffer(f"sv{i}", torch.ones(1))

    def W_(self):  # noqa: N802
        matrix = self.weight.flatten(1)
        for _ in range(self.num_itrs):
            with torch.no_grad():
                v = F.normalize(self.u0 @ matrix, eps=self.eps)
                u = F.normalize(v @ matrix.t(), eps=self.eps)
                if self.training:
                    self.u0.copy_(u)
            sigma = (v @ matrix.t() @ u.t()).squeeze()
        if self.training:
            self.sv0.fill_(sigma.detach())
        return self.weight / sigma


class BigGANConv2d(nn.Conv2d, BigGANNorm):
    def __init__(self, *args, num_svs=1, num_itrs=1, **kwargs):
        nn.Conv2d.__init__(self, *args, **kwargs)
        self.start(self.out_channels, num_svs, num_itrs)

    def forward(self, x):
        return F.conv2d(x, self.W_(), self.bias, self.stride, self.padding, self.dilation, self.groups)


class BigGANLinear(nn.Linear, BigGANNorm):
    def __init__(self, *args, **kwargs):
        nn.Linear.__init__(self, *args, **kwargs)
        self.start(self.out_features)

    def forward(self, x):
        return F.linear(x, self.W_(), self.bias)


def with_(norm, **options):
    return lambda kind: lambda *args, **kwargs: norm(kind(*args, **kwargs), **options)


KINDS = {
    "parametrization": (
        with_(parametrizations.spectral_norm)(nn.Conv2d),
        with_(parametrizations.spectral_norm)(nn.Linear),
    ),
    "hook": (with_(hook_norm)(nn.Conv2d), with_(hook_norm, n_power_iterations=2)(nn.Linear)),
    "mimicry": (MimicryConv2d, MimicryLinear),
    "biggan": (BigGANConv2d, BigGANLinear),
    "mixed": (with_(hook_norm)(nn.Conv2d), BigGANLinear),
}
