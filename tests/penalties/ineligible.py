"""Critics that one pass cannot differentiate, each with the reason given; and some with constants that it can."""

import contextlib
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan import NotAffineError
from fastgan.ops import bias_act, minibatch_stddev
from fastgan.ops.convolution import convolution
from tests.acceleration.zoo import MinibatchStdLayer

SHAPE = (3, 6, 6)


class Around(nn.Module):
    """A convolution, `middle`, a head."""

    def __init__(self, middle, features: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(features, 1)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(F.leaky_relu(self.stem(x), 0.2)).flatten(1))


class ComplexWeights(nn.Module):
    """A product with complex weights, whose real part goes on."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call
        self.v, self.w = (nn.Parameter(torch.randn(4, 1, 1, dtype=torch.complex128)) for _ in range(2))
        self.m = nn.Parameter(torch.randn(4, 4, dtype=torch.complex128))

    def forward(self, h: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the imaginary part, which is discarded
            return self.call(self, h).to(torch.float64)


class StraightThrough(torch.autograd.Function):
    """Rounds forward, the identity backward."""

    @staticmethod
    def forward(ctx, x):
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx, grad):
        return grad


class Rounding(torch.autograd.Function):
    """The same, whose result is that of an operation without a derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


class Reversal(torch.autograd.Function):
    """The identity forward, minus the gradient backward."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Reversed(nn.Module):
    """Reverses the gradient before a convolution that is an autograd.Function of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 1, 1))

    def forward(self, h: Tensor) -> Tensor:
        return convolution(Reversal.apply(h), self.weight)


class Deviating(nn.Module):
    """The standard deviation over the batch before a convolution that is an autograd.Function of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5, 1, 1))

    def forward(self, h: Tensor) -> Tensor:
        return convolution(minibatch_stddev(h), self.weight)


class ReversalInPlace(torch.autograd.Function):
    """The same without a single operation in forward."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return -grad


class RoundedGate(nn.Module):
    """A product of a parameter and a rounded activation: eligible in principle, but autograd's graph joins them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, h):
        return h * (self.weight * h.round())


def stddev(h: Tensor) -> Tensor:
    """StyleGAN2's minibatch standard deviation over groups of two."""
    y = h.reshape(2, -1, *h.shape[1:])
    y = (y - y.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3), keepdim=True)
    return torch.cat([h, y.repeat(2, 1, *h.shape[2:])], dim=1)


def _accelerated(module: nn.Module) -> nn.Module:
    assert fastgan.accelerate(module).replaced
    return module


def through_a_view(h: Tensor) -> Tensor:
    a = h[:, :2]
    a.mul_(3)
    return h


def into_a_buffer(h: Tensor) -> Tensor:
    out = torch.zeros_like(h)
    out[:, :4] = h
    return out


def attention(h: Tensor) -> Tensor:
    t = h.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(t, t, t)


def through_its_node(register: str):
    """Doubles the gradient of an activation by a hook on the node of autograd that made it."""

    def double(*gradients):
        return tuple(None if g is None else 2 * g for g in gradients[0])

    def run(h: Tensor) -> Tensor:
        h = h * 1
        getattr(h.grad_fn, register)(double)
        return h

    return run


def retained(h: Tensor) -> Tensor:
    h = h * 1
    h.retain_grad()
    return h


def _hooked(register: str) -> nn.Module:
    """A layer whose module hook doubles the gradient that it hands on."""
    layer = nn.Conv2d(4, 4, 1)
    at = 1 if register == "register_full_backward_pre_hook" else -2
    getattr(layer, register)(lambda *args: tuple(None if g is None else 2 * g for g in args[at]))
    return layer


class InNumpy(torch.autograd.Function):
    """Leaves torch in forward."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(2 * x.detach().numpy())

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def spectrum(h: Tensor) -> Tensor:
    return torch.fft.rfft(h).abs()


def short_time_spectrum(h: Tensor) -> Tensor:
    maps = torch.stft(h.flatten(2).flatten(0, 1), 8, 4, window=torch.ones(8).to(h), return_complex=True).abs()
    return maps.reshape(len(h), -1)


def swallowed(h: Tensor) -> Tensor:
    """Uses a supposed weight twice; the first refusal is swallowed."""
    weight = Rounding.apply(h).mean((0, 2, 3), keepdim=True)
    with torch.no_grad(), contextlib.suppress(NotAffineError):
        _ = h * weight
    return h * weight


def gradient_inside(h: Tensor) -> Tensor:
    (g,) = torch.autograd.grad(h.relu().sum(), h, create_graph=True)
    return h + g


def functional_gradient(h: Tensor) -> Tensor:
    return h * torch.func.grad(lambda t: t.relu().sum())(h)


COMPLEX = {
    "product": lambda s, h: h * s.v * s.w,
    "quotient": lambda s, h: (h + s.v) / s.w,
    "matrix product": lambda s, h: (h.movedim(1, 3).to(torch.complex128) @ s.m).movedim(3, 1),
    "batched matrix product": lambda s, h: torch.bmm(s.m.expand(len(h), 4, 4), h.flatten(2) + 0j).view(h.shape),
    "cat": lambda s, h: torch.cat([h[:, :2], s.v[:2].expand(len(h), 2, *h.shape[2:])], 1) * s.w,
    "parts": lambda s, h: torch.complex(h, h.abs()) * s.w,
}


def view_of_what_has_changed(h: Tensor) -> Tensor:
    """Autograd makes the view's node anew, and holds its lock while it tells Python that it has no hooks."""
    with torch.no_grad():
        size = h.abs().mean((1, 2, 3), keepdim=True)
    h = h * 2
    view = h[:, :, ::2]
    h.mul_(size > 0)
    return h + StraightThrough.apply(view).repeat(1, 1, 2, 1)


INELIGIBLE = {
    **{
        f"complex {name}": (lambda call=call: Around(ComplexWeights(call)), "complex")
        for name, call in COMPLEX.items()
    },
    "batch norm": (lambda: Around(nn.BatchNorm2d(4)), "batch normalisation in training.*middle: BatchNorm2d"),
    "minibatch stddev": (lambda: Around(stddev, 80), "mixes the samples|reduced|not known"),
    "minibatch stddev, fused": (
        lambda: Around(fastgan.nn.MinibatchStdDev(2), 80),
        "standard deviation compares the samples of a batch.*middle: MinibatchStdDev",
    ),
    "minibatch stddev of an odd batch": (
        lambda: Around(fastgan.nn.MinibatchStdDev(3, 2), 96), "compares the samples.*middle: MinibatchStdDev"
    ),
    "minibatch stddev, accelerated": (lambda: Around(_accelerated(MinibatchStdLayer(2)), 80), "samples"),
    "minibatch discrimination": (
        lambda: Around(nn.Sequential(nn.Flatten(), fastgan.nn.MinibatchDiscrimination(64, 3, 2)), 67),
        "compares the samples.*middle.1: MinibatchDiscrimination",
    ),
    "tanh": (lambda: Around(nn.Tanh()), "aten.tanh.default is not known to be affine.*middle: Tanh"),
    "swish": (lambda: Around(nn.SiLU()), "silu"),
    "swish, fused": (lambda: Around(fastgan.nn.BiasAct(4, act="swish")), "swish.*BiasAct"),
    "layer norm": (lambda: Around(nn.LayerNorm([4, 4])), "native_layer_norm"),
    "group norm": (lambda: Around(nn.GroupNorm(2, 4)), "native_group_norm"),
    "attention": (lambda: Around(attention), "attention|softmax|product of two"),
    "square": (lambda: Around(lambda h: h * h), "product of two tensors"),
    "normalised": (lambda: Around(lambda h: h / h.abs().mean((1, 2, 3), keepdim=True)), "division by a tensor"),
    "mean over the batch": (lambda: Around(lambda h: h - h.mean(0)), "samples .* are reduced"),
    "rolled batch": (lambda: Around(lambda h: h + h.roll(1, 0)), "along the samples"),
    "reversed batch": (lambda: Around(lambda h: h.flip(0)), "along the samples"),
    "sorted batch": (lambda: Around(lambda h: h[torch.arange(len(h) - 1, -1, -1)]), "along the samples"),
    "mixed by a matrix": (lambda: Around(lambda h: torch.ones(4, 4, dtype=h.dtype) @ h.flatten(1)), "over the samples"),
    "reshaped": (lambda: Around(lambda h: h.reshape(4, 2, -1).transpose(0, 1).reshape(4, -1).roll(1, 1)), "mixes"),
    "straight-through": (lambda: Around(lambda h: h + StraightThrough.apply(h)), "of unknown derivative"),
    "rounded": (lambda: Around(lambda h: h + Rounding.apply(h)), "of unknown derivative"),
    "rounded weight": (lambda: Around(RoundedGate()), "of unknown derivative"),
    "a branch on the data": (lambda: Around(lambda h: 2 * h if h.sum() > 0 else 3 * h), "reduced"),
    "gradient reversal": (lambda: Around(Reversal.apply), "Reversal may have any backward"),
    "gradient reversal before an op of ours": (
        lambda: Around(lambda h: bias_act(Reversal.apply(h), act="lrelu")), "Reversal may have any backward",
    ),
    "gradient reversal before a convolution of ours": (
        lambda: Around(Reversed()), "Reversal may have any backward",
    ),
    "a refused op of ours before another": (lambda: Around(Deviating()), "minibatch_stddev|standard deviation"),
    "gradient reversal in place": (
        lambda: Around(lambda h: ReversalInPlace.apply(h * 1)), "ReversalInPlace may have any backward",
    ),
    "data": (lambda: Around(lambda h: h + h.data.tanh()), "past autograd"),
    "view changed": (lambda: Around(through_a_view), "in place"),
    "written into a buffer": (lambda: Around(into_a_buffer), "copy_.* is not known"),
    "a hook on its node": (
        lambda: Around(through_its_node("register_hook")), "autograd node of an activation.*in the critic: Around"
    ),
    "a hook before its node": (lambda: Around(through_its_node("register_prehook")), "autograd node of an activation"),
    "a retained gradient": (lambda: Around(retained), "gradient of an activation is to be retained"),
    "a module's backward hook": (lambda: Around(_hooked("register_backward_hook")), "node|hook"),
    "a module's full backward hook": (lambda: Around(_hooked("register_full_backward_hook")), "node|hook"),
    "a module's backward pre-hook": (lambda: Around(_hooked("register_full_backward_pre_hook")), "node|hook"),
    "a spectrum": (lambda: Around(spectrum, 48), "fft_r2c"),
    "a short-time spectrum": (lambda: Around(short_time_spectrum, 100), "stft|fft|not known"),
    "complex numbers": (lambda: Around(lambda h: h.to(torch.complex128).real), "complex numbers.*critic: Around"),
    "numpy": (lambda: Around(InNumpy.apply), "that recording does not see"),
    "a function of a view of what has changed in place": (lambda: Around(view_of_what_has_changed), "in place|unknown"),
    "a refusal that is swallowed": (lambda: Around(swallowed), "of unknown derivative"),
    "autograd.grad in forward": (lambda: Around(gradient_inside), "reduced"),
    "torch.func.grad in forward": (lambda: Around(functional_gradient), "cannot be recorded.*torch.func"),
}  # fmt: skip

CONSTANTS = {
    "statistics under no_grad": lambda h: h * _scaled(h),
    "a rounded gate": lambda h: h * h.round(),
    "detached gate": lambda h: h * h.detach().sigmoid(),
    "gate under no_grad": lambda h: h * _no_grad_gate(h),
    "a detached activation that goes on changing": lambda h: h + GAIN * _changed_afterwards(h),
    "mask of a comparison": lambda h: h * (h > h.mean((2, 3), keepdim=True)),
    "coupled mask": lambda h: torch.where(h.detach() > h.detach().mean(0), h, 0.1 * h),
    "sign": lambda h: h * h.sign() + torch.sign(h),
    "a Python number": lambda h: h * float(h.detach().abs().max()),
    "argmax": lambda h: h * F.one_hot(h.argmax(3), 4).to(h.dtype),
    "the gradient at a detached activation": lambda h: h * _gradient_at(h.detach()),
    "a leaf made under no_grad": lambda h: h + GAIN * _leaf(h),
}


def _gradient_at(leaf: Tensor) -> Tensor:
    """A weight that autograd knows to depend on a leaf in an activation's memory."""
    leaf.requires_grad_()
    return torch.autograd.grad(F.softplus(GAIN * leaf).sum(), leaf, create_graph=True)[0]


def _leaf(h: Tensor) -> Tensor:
    with torch.no_grad():
        return F.relu(h).requires_grad_()


def _scaled(h: Tensor) -> Tensor:
    """A weight that is made of statistics of the activations, which are no variables."""
    with torch.no_grad():
        size = h.mean((1, 2, 3), keepdim=True) + 1
    return GAIN * size


def _changed_afterwards(h: Tensor) -> Tensor:
    """Shares its memory with an activation that is changed in place when this has been read."""
    activation = F.leaky_relu(h, 0.3)
    detached = activation.detach()
    activation.add_(1).mul_(2)
    return detached


GAIN = nn.Parameter(torch.rand(4, 1, 1, dtype=torch.float64))


def _no_grad_gate(h: Tensor) -> Tensor:
    with torch.no_grad():
        return F.layer_norm(h, h.shape[1:]).tanh()
