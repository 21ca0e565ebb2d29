"""Self-attention blocks for images, written from the papers in the ways that people write them, right and wrong.

Zhang et al. 2019 (SAGAN), arXiv:1805.08318, equations 1 to 3; Brock et al. 2019 (BigGAN), arXiv:1809.11096, appendix B.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as hook_norm

from tests.acceleration.normalised_layers import BigGANConv2d, MimicryConv2d


class Wrapped(nn.Module):
    """A spectral norm around a layer, by one step of the power iteration from a fixed start."""

    def __init__(self, inner):
        super().__init__()
        self.module, self.times = inner, 1

    def forward(self, x):
        matrix = self.module.weight.flatten(1)
        with torch.no_grad():
            u = F.normalize(matrix.sum(1), dim=0)
            v = F.normalize(matrix.t() @ u, dim=0)
        return F.conv2d(x, self.module.weight / (u @ matrix @ v) * self.times, self.module.bias)


NORMS = {
    "none": nn.Conv2d,
    "parametrization": lambda *args, **kwargs: parametrizations.spectral_norm(nn.Conv2d(*args, **kwargs)),
    "hook": lambda *args, **kwargs: hook_norm(nn.Conv2d(*args, **kwargs)),
    "biggan": BigGANConv2d,
    "mimicry": MimicryConv2d,
    "wrapper": lambda *args, **kwargs: Wrapped(nn.Conv2d(*args, **kwargs)),
}


class Sagan(nn.Module):
    """The first of the kind: products of [B, features, pixels], a softmax layer, a gamma of shape [1]."""

    def __init__(self, channels, conv=nn.Conv2d):
        super().__init__()
        self.channels = channels
        self.activation = "relu"
        self.query_conv = conv(channels, channels // 4, kernel_size=1)
        self.key_conv = conv(channels, channels // 4, kernel_size=1)
        self.value_conv = conv(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.softmax = nn.Softmax(dim=-1)

    def weights(self, x):
        batch, _, height, width = x.shape
        queries = self.query_conv(x).view(batch, -1, height * width).permute(0, 2, 1)
        keys = self.key_conv(x).view(batch, -1, height * width)
        return self.softmax(torch.bmm(queries, keys))

    def mixed(self, x):
        weights = self.weights(x)
        values = self.value_conv(x).view(len(x), -1, weights.shape[2])
        return torch.bmm(values, weights.permute(0, 2, 1)).view(*x.shape)

    def forward(self, x):
        return self.gamma * self.mixed(x) + x


class OfLetters(nn.Module):
    """As the equations have it: s_ij = f(x_i) g(x_j), the softmax over i, o_j = sum over i of h(x_i) beta_ij."""

    def __init__(self, channels, conv=nn.Conv2d):
        super().__init__()
        self.f, self.g = (conv(channels, channels // 4, 1, bias=False) for _ in range(2))
        self.h = conv(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        f, g, h = (layer(x).flatten(2) for layer in (self.f, self.g, self.h))
        beta = F.softmax(f.transpose(1, 2) @ g, dim=1)
        return x + self.gamma * (h @ beta).reshape(x.size())


class BigGan(nn.Module):
    """Keys and values pooled, a fourth convolution, a gamma without a dimension; keeps the function that made them."""

    def __init__(self, ch, which_conv=nn.Conv2d, name="attention"):
        super().__init__()
        self.ch, self.which_conv = ch, functools.partial(which_conv, bias=False)
        self.theta = self.which_conv(ch, ch // 4, kernel_size=1)
        self.phi = self.which_conv(ch, ch // 4, kernel_size=1)
        self.g = self.which_conv(ch, ch // 2, kernel_size=1)
        self.o = self.which_conv(ch // 2, ch, kernel_size=1)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x, y=None):
        assert y is None, "takes no labels"
        height, width = x.shape[2:]
        theta = self.theta(x).view(-1, self.ch // 4, height * width)
        phi = F.max_pool2d(self.phi(x), [2, 2]).view(-1, self.ch // 4, height * width // 4)
        g = F.max_pool2d(self.g(x), [2, 2]).view(-1, self.ch // 2, height * width // 4)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        o = self.o(torch.bmm(g, beta.transpose(1, 2)).view(-1, self.ch // 2, height, width))
        return self.gamma * o + x


class OfLayers(nn.Module):
    """The same in other words, with layers for the pooling and the softmax."""

    def __init__(self, channels, conv=nn.Conv2d):
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=2)
        self.softmax = nn.Softmax(dim=2)
        self.attn = conv(channels // 2, channels, 1)
        self.conv_v = conv(channels, channels // 2, 1)
        self.conv_k = conv(channels, channels // 8, 1)
        self.conv_q = conv(channels, channels // 8, 1)
        self.sigma = nn.Parameter(torch.zeros(1))

    def forward(self, input):
        v = self.pool(self.conv_v(input)).flatten(2)
        k, q = self.pool(self.conv_k(input)).flatten(2), self.conv_q(input).flatten(2)
        weights = self.softmax(torch.einsum("bcn,bcm->bnm", q, k))
        return input + self.sigma * self.attn(torch.einsum("bnm,bcm->bcn", weights, v).unflatten(2, input.shape[2:]))


class Scaled(nn.Module):
    """As a transformer has it: rows of pixels, products over the root of the features."""

    def __init__(self, channels, conv=nn.Conv2d):
        super().__init__()
        self.W_q, self.W_k = conv(channels, channels // 2, 1), conv(channels, channels // 2, 1)
        self.W_v, self.scale = conv(channels, channels, 1), (channels // 2) ** -0.5
        self.alpha = nn.Parameter(torch.zeros(1, 1, 1, 1))

    def forward(self, x):
        q, k, v = (y.flatten(2).mT for y in (self.W_q(x), self.W_k(x), self.W_v(x)))
        out = ((q @ k.mT) * self.scale).softmax(-1) @ v
        return self.alpha * out.mT.unflatten(2, x.shape[2:]) + x


class Subclass(Sagan):
    """Says more, and computes the same."""

    def extra_repr(self):
        return f"{self.channels} channels"

    def forward(self, x):
        return super().forward(x)


BLOCKS = {
    "sagan": Sagan, "letters": OfLetters, "biggan": BigGan, "layers": OfLayers, "scaled": Scaled, "subclass": Subclass,
}  # fmt: skip


# --- blocks that are not what they look like --------------------------------------------------------------------------


class HandsOutItsMatrix(Sagan):
    def forward(self, x):
        return super().forward(x), self.weights(x)


class ReturnsAList(Sagan):
    def forward(self, x):
        return [super().forward(x)]


class Changed(Sagan):
    """What others make of the weights of the softmax."""

    def mixed(self, x):
        weights = self.changed(self.weights(x))
        values = self.value_conv(x).flatten(2)
        return torch.bmm(values, weights.permute(0, 2, 1)).view(*x.shape)

    def changed(self, weights):
        return weights


class OverQueries(Changed):
    """The softmax over the wrong axis."""

    def __init__(self, channels):
        super().__init__(channels)
        self.softmax = nn.Softmax(dim=-2)


class NotTransposed(Sagan):
    """Sums over the queries with weights whose sums over the keys are one."""

    def mixed(self, x):
        return torch.bmm(self.value_conv(x).flatten(2), self.weights(x)).view(*x.shape)


class KeepsItsMatrix(Changed):
    attention = None

    def changed(self, weights):
        self.attention = weights.detach()
        return weights


class DroppedOut(Changed):
    p = 0.1

    def changed(self, weights):
        return F.dropout(weights, self.p, self.training)


class Masked(Changed):
    """Each pixel attends to those before it, and to itself."""

    def changed(self, weights):
        weights = weights.tril()
        return weights / weights.sum(-1, keepdim=True)


class Detached(Changed):
    def changed(self, weights):
        return weights.detach()


class ConstantSlope(torch.autograd.Function):
    """The identity, whose gradient says it has no further one."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g.detach()


class WithoutSecondDerivative(Changed):
    def changed(self, weights):
        return ConstantSlope.apply(weights)


class InSinglePrecision(Changed):
    def changed(self, weights):
        return weights.float().to(weights.dtype)


class OtherInEvaluation(Changed):
    def changed(self, weights):
        return weights if self.training else weights.square()


class OtherInTraining(Changed):
    def changed(self, weights):
        return weights.square() if self.training else weights


class OtherOfOddSizes(Changed):
    def changed(self, weights):
        return weights.square() if weights.shape[1] % 2 else weights


class OtherOfOneImage(Changed):
    def changed(self, weights):
        return weights if len(weights) > 1 else weights.square()


class OtherScale(Sagan):
    def weights(self, x):
        queries, keys = self.query_conv(x).flatten(2), self.key_conv(x).flatten(2)
        return self.softmax(queries.mT @ keys / self.channels**0.5)


class WithoutImage(Sagan):
    def forward(self, x):
        return self.gamma * self.mixed(x)


class PositiveGamma(Sagan):
    def forward(self, x):
        return self.gamma.abs() * self.mixed(x) + x


class BoundedGamma(Sagan):
    def forward(self, x):
        return self.gamma.clamp(-1, 1) * self.mixed(x) + x


class SkipsAtZero(Sagan):
    def forward(self, x):
        return x if self.gamma == 0 else super().forward(x)


class FrozenGamma(Sagan):
    def forward(self, x):
        return self.gamma.detach() * self.mixed(x) + x


class MeanOfKeys(BigGan):
    """Pools by means."""

    def forward(self, x):
        q, k, v = self.theta(x).flatten(2), F.avg_pool2d(self.phi(x), 2), F.avg_pool2d(self.g(x), 2)
        beta = (q.mT @ k.flatten(2)).softmax(-1)
        return self.gamma * self.o((v.flatten(2) @ beta.mT).unflatten(2, x.shape[2:])) + x


class OfWeights(Sagan):
    """Reads the weight of its convolution, past hooks and norms."""

    def weights(self, x):
        queries = F.conv2d(x, self.query_conv.weight, self.query_conv.bias).flatten(2)
        return self.softmax(queries.mT @ self.key_conv(x).flatten(2))


class OfWeightsInEvaluation(OfWeights):
    def weights(self, x):
        return Sagan.weights(self, x) if self.training else super().weights(x)


class ReadsAnObject(BigGan):
    def forward(self, x):
        return super().forward(x) * self.which_conv.keywords.get("gain", 1.0)


class InPlace(Sagan):
    def forward(self, x):
        return x.add_(self.gamma * self.mixed(x))


class WithBuffer(Sagan):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("calls", torch.zeros(()))


class WithNorm(Sagan):
    def __init__(self, channels):
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return super().forward(self.norm(x))


class Fixed(Sagan):
    """Knows its image's size."""

    def forward(self, x):
        return super().forward(x.view(-1, self.channels, 8, 8))


class NotAttention(nn.Module):
    """Three convolutions and a number."""

    def __init__(self, channels):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.gain * self.a(x) * self.b(x).sigmoid() * self.c(x)


_OTHER = "looks like self-attention but computes something else"
_CALLS = "does not call three 1x1 convolutions with its image"

WRONG = {
    "matrix": (HandsOutItsMatrix, "hands out its attention matrix"),
    "list": (ReturnsAList, "returns a list, not a tensor"),
    "kept": (KeepsItsMatrix, "changes its attributes as it runs"),
    "queries": (OverQueries, _OTHER),
    "not transposed": (NotTransposed, _OTHER),
    "dropout": (DroppedOut, "draws random numbers"),
    "masked": (Masked, _OTHER),
    "detached": (Detached, _OTHER),
    "second derivative": (WithoutSecondDerivative, _OTHER),
    "single precision": (InSinglePrecision, _OTHER),
    "evaluation": (OtherInEvaluation, _OTHER),
    "training": (OtherInTraining, _OTHER),
    "odd sizes": (OtherOfOddSizes, _OTHER),
    "one image": (OtherOfOneImage, _OTHER),
    "scale": (OtherScale, _OTHER),
    "no image": (WithoutImage, _OTHER),
    "absolute": (PositiveGamma, _OTHER),
    "bounded": (BoundedGamma, _OTHER),
    "skips": (SkipsAtZero, _OTHER),
    "frozen gamma": (FrozenGamma, _OTHER),
    "means": (MeanOfKeys, _OTHER),
    "weights": (OfWeights, _CALLS),
    "weights in evaluation": (OfWeightsInEvaluation, _CALLS),
    "object": (ReadsAnObject, "has no attribute 'which_conv'"),
    "in place": (InPlace, _OTHER),
    "buffer": (WithBuffer, "has buffers in it"),
    "norm": (WithNorm, "has norm in it besides its convolutions"),
    "fixed": (Fixed, "could not be run on a copy in float64"),
    "not attention": (NotAttention, _OTHER),
}  # fmt: skip


# --- blocks drawn at random -------------------------------------------------------------------------------------------

_NAMES = (
    ("query_conv", "key_conv", "value_conv", "out_conv", "gamma"), ("theta", "phi", "g", "o", "gamma"),
    ("f", "g", "h", "v", "sigma"), ("W_q", "W_k", "W_v", "W_z", "alpha"), ("a", "b", "c", "d", "e"),
)  # fmt: skip
FAULTS = {
    "softmax": {"over_queries": True},
    "scale": {"scale": 1.5},
    "gamma": {"gain": 2.0},
    "image": {"kept": 0.5},
    "values": {"detached": True},
    "pooling": {"pooled": True, "mean_values": True},
}  # fmt: skip


class Drawn(nn.Module):
    """A block of any names, widths, order, products and scale; `fault` names what is wrong with it."""

    over_queries = detached = mean_values = False
    gain = kept = 1.0

    def __init__(self, rng, conv, fault=None):
        super().__init__()
        channels, features = rng.choice((4, 8)), rng.choice((1, 2, 4))
        *self.names, self.out, self.number = rng.choice(_NAMES)
        self.order = rng.sample(range(3), 3)
        self.pooled, self.keys_first, self.image_first, self.convolved = (rng.random() < 0.5 for _ in range(4))
        self.scale = rng.choice((1.0, features**-0.5))
        vars(self).update(FAULTS.get(fault, {}))
        widths = features, features, rng.choice((2, channels)) if self.convolved else channels
        for i in rng.sample(range(3), 3):
            self.add_module(self.names[i], conv(channels, widths[i], 1, bias=rng.random() < 0.5))
        if self.convolved:
            self.add_module(self.out, conv(widths[2], channels, 1))
        self.register_parameter(self.number, nn.Parameter(torch.zeros(rng.choice(((), (1,), (1, 1, 1))))))

    def forward(self, x):
        made = {i: getattr(self, self.names[i])(x) for i in self.order}
        q, k, v = made[0], made[1], made[2].detach() if self.detached else made[2]
        if self.pooled:
            k, v = F.max_pool2d(k, 2), F.avg_pool2d(v, 2) if self.mean_values else F.max_pool2d(v, 2)
        q, k, v = q.flatten(2), k.flatten(2), v.flatten(2)
        scores = torch.bmm(k.mT, q) if self.keys_first else torch.bmm(q.mT, k)
        weights = torch.softmax(scores * self.scale, dim=1 if self.keys_first != self.over_queries else 2)
        o = torch.bmm(v, weights if self.keys_first else weights.mT).view(len(x), -1, *x.shape[2:])
        o = getattr(self, self.number) * (getattr(self, self.out)(o) if self.convolved else o) * self.gain
        return x * self.kept + o if self.image_first else o + x * self.kept
