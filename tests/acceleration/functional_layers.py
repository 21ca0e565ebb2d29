"""Layers that call torch's functions themselves, in the ways that people write them, and random models of them."""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.acceleration.normalised_layers import BigGANConv2d, MimicryConv2d


def biased(x, b, slope=0.2, clamp=4.0):
    x = x + b.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])
    return (F.leaky_relu(x, slope) * 2**0.5).clamp(-clamp, clamp)


class OwnWeight(nn.Module):
    def __init__(self, before, after, size=3, groups=1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before // groups, size, size) * 0.3)
        self.bias, self.groups = nn.Parameter(torch.randn(after) * 0.1), groups

    def forward(self, x):
        return biased(F.conv2d(x, self.weight * 1.5, padding=self.weight.shape[-1] // 2, groups=self.groups), self.bias)


class Standardised(nn.Conv2d):
    """A subclass that convolves with another weight (Qiao et al. 2019)."""

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Renamed(nn.Conv2d):
    """A subclass that computes what its base does."""


class Blur(nn.Module):
    def __init__(self, channels):
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", line.outer(line).expand(channels, 1, 4, 4).contiguous())

    def forward(self, x):
        return F.conv2d(F.pad(x, [2, 1, 2, 1]), self.kernel, groups=x.shape[1])[:, :, ::1, ::1]


class OfMethods(nn.Module):
    """A static method, a property, a function as an attribute, a base class's forward and methods of tensors."""

    def __init__(self, channels):
        super().__init__()
        self.w, self.act = nn.Parameter(torch.randn(channels, channels, 1, 1) * 0.4), functools.partial(F.leaky_relu)

    @staticmethod
    def rectified(x):
        return x.relu() - 0.3 * x.abs()

    @property
    def weight(self):
        return F.hardtanh(self.w, -0.5, 0.5)

    def forward(self, x):
        return self.act(self.rectified(F.conv2d(x, self.weight)))


class Squashed(OfMethods):
    def forward(self, x):
        return super().forward(x) + F.relu6(x)


class Twice(nn.Module):
    """Calls one module twice, another for itself, and changes results in place."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.conv = inner, nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        h = self.inner(F.leaky_relu_(self.conv(x), 0.1))
        h += x
        return self.inner(h) + F.relu(self.conv(h), inplace=True)


class Recursive(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = Renamed(4, 4, 1)

    def forward(self, x, depth=2):
        x = F.leaky_relu(self.conv(x), 0.3)
        return self(x, depth - 1) + x if depth else x


class Slopes(OwnWeight):
    """One slope for each channel; fastgan saves them in another shape than torch does."""

    def forward(self, x):
        return F.prelu(F.conv2d(x, self.weight, padding=1), self.bias)


class Checkpointed(nn.Module):
    """A checkpoint of a module, and one of a method, which is run again without the module around it."""

    def __init__(self, inner, use_reentrant=False):
        super().__init__()
        self.inner, self.conv, self.use_reentrant = inner, OwnWeight(4, 4, groups=2), use_reentrant

    def method(self, x):
        h = F.conv2d(x, self.conv.weight, self.conv.bias, padding=1, groups=2)
        return F.prelu(F.leaky_relu(h, 0.2), self.conv.bias) + F.relu(x)

    def forward(self, x):
        h = checkpoint(self.method, F.leaky_relu(x, 0.5), use_reentrant=self.use_reentrant)
        return h + checkpoint(self.inner, x, use_reentrant=self.use_reentrant)


class Offloaded(nn.Module):
    """Saves its tensors elsewhere."""

    def __init__(self):
        super().__init__()
        self.conv = OwnWeight(4, 4)

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
            return F.leaky_relu(self.conv(x), 0.2)


def _scaled(module, args, y):
    return F.leaky_relu(y, 0.7)


def _hooked(module):
    module.register_forward_hook(_scaled)
    module.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    return module


LAYERS = {
    "own weight": lambda inner: OwnWeight(4, 4),
    "grouped": lambda inner: OwnWeight(4, 4, groups=2),
    "slopes": lambda inner: Slopes(4, 4),
    "1x1": lambda inner: OwnWeight(4, 4, 1),
    "subclass": lambda inner: Standardised(4, 4, 3, padding=1, groups=2),
    "renamed": lambda inner: Renamed(4, 4, 3, padding=1, padding_mode="reflect"),
    "mimicry": lambda inner: MimicryConv2d(4, 4, 3, padding=1),
    "biggan": lambda inner: BigGANConv2d(4, 4, 3, padding=1),
    "blur": lambda inner: Blur(4),
    "methods": lambda inner: OfMethods(4),
    "super": lambda inner: Squashed(4),
    "twice": Twice,
    "recursive": lambda inner: Recursive(),
    "checkpointed": Checkpointed,
    "offloaded": lambda inner: Offloaded(),
    "hooked": lambda inner: _hooked(OwnWeight(4, 4)),
    "parametrized": lambda inner: nn.utils.parametrizations.weight_norm(Standardised(4, 4, 3, padding=1)),
    "layers": lambda inner: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU(0.2)),
}


class Critic(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.first, self.body, self.head = nn.Conv2d(3, 4, 3, padding=1), body, nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.body(F.leaky_relu(self.first(x), 0.2)).mean((2, 3)))


def critic(name):
    return Critic(LAYERS[name](OwnWeight(4, 4)))


def random_critic(rng, most=4):
    """Some of those layers, in one another and one after the other, some of them more than once."""
    layers: list[nn.Module] = [OwnWeight(4, 4)]
    for _ in range(rng.randint(1, most)):
        layers.append(
            rng.choice(layers) if rng.random() < 0.2 else LAYERS[rng.choice(list(LAYERS))](rng.choice(layers))
        )
    return Critic(nn.Sequential(*layers))
