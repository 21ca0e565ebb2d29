"""Convolutions by one constant filter: where `convolution` leaves them to upfirdn2d, and their values."""

import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.ops.convolution import conv2d, conv_transpose2d, shared_filter
from fastgan.penalties import R1, critic_loss

UPFIRDN2D = torch.ops.fastgan.upfirdn2d.default
BLUR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


@pytest.fixture
def small_images_too(monkeypatch):
    monkeypatch.setattr(shared_filter, "LEAST_ELEMENTS", 1)
    monkeypatch.setattr(shared_filter, "LEAST_SIDE", 1)


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the calls of upfirdn2d, and of PyTorch's convolutions."""

    def __init__(self):
        super().__init__()
        self.ours = self.torchs = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.ours += function is UPFIRDN2D
        self.torchs += function in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
        return function(*args, **(kwargs or {}))


def taken(x, w, function=conv2d, **kwargs):
    with Calls() as calls:
        function(x.detach().requires_grad_(), w, **kwargs)
    assert calls.ours + calls.torchs == 1
    return calls.ours == 1


def separable(h, w, generator):
    """An outer product of small whole numbers, which float32 holds."""
    u, v = (torch.randint(1, 9, (n,), generator=generator, dtype=torch.float64) for n in (h, w))
    return torch.outer(u, v) / 16


# (channels, kernel, stride, padding)
SHAPES = [
    (3, (3, 3), (2, 2), (1, 1)), (2, (4, 4), (2, 2), (1, 1)), (5, (1, 6), (1, 3), (0, 2)), (2, (2, 3), (3, 1), (4, 0)),
    (1, (3, 2), (1, 2), (0, 1)), (4, (1, 1), (2, 2), (0, 0)),
]  # fmt: skip


@pytest.mark.usefixtures("poisoned", "small_images_too")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_three_derivatives_are_pytorchs(shape, transposed, channels_last, generator):
    channels, kernel, stride, padding = shape
    if transposed:  # as much as PyTorch takes: the result has pixels
        padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    kwargs = {"stride": stride, "padding": padding, "groups": channels}
    if transposed:
        kwargs["output_padding"] = tuple(s - 1 for s in stride)
    f = separable(*kernel, generator) if channels > 1 else torch.randint(-9, 9, kernel, generator=generator).double()
    w = f.expand(channels, 1, *kernel)
    x = torch.randn(2, channels, 7, 8, generator=generator, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(channels, generator=generator, dtype=torch.float64).requires_grad_()
    results = []
    for function in (conv_transpose2d, F.conv_transpose2d) if transposed else (conv2d, F.conv2d):
        leaf = x.clone().requires_grad_()
        with Calls() as calls:
            y = function(leaf, w, bias, **kwargs)
            (first,) = torch.autograd.grad(y.sin().sum(), leaf, create_graph=True)
            second = torch.autograd.grad(first.pow(3).sum(), (leaf, bias), create_graph=True)
            third = torch.autograd.grad(second[0].square().sum(), (leaf, bias))
        assert calls.torchs == 0 if function in (conv2d, conv_transpose2d) else calls.ours == 0
        results.append((y, first, *second, *third))
    for ours, truth in zip(*results, strict=True):
        assert ours.shape == truth.shape
        assert ours.stride() == truth.stride()
        assert (ours - truth).abs().max() <= 1e-12 * truth.abs().max()


def test_float32_is_as_accurate_as_pytorchs(generator):
    x = torch.randn(4, 24, 32, 32, generator=generator)
    w = BLUR.repeat(24, 1, 1, 1)
    truth = F.conv2d(x.double(), w.double(), stride=2, padding=1, groups=24)
    assert taken(x, w, stride=2, padding=1, groups=24)
    ours, torchs = (function(x, w, stride=2, padding=1, groups=24) for function in (conv2d, F.conv2d))
    assert (ours - truth).square().mean() <= 4 * (torchs - truth).square().mean()


def test_where_it_is_taken(generator):
    x = torch.randn(4, 8, 16, 16, generator=generator)
    how = {"padding": 1, "groups": 8}
    assert taken(x, BLUR.expand(8, 1, 3, 3), **how)
    assert taken(x, BLUR.repeat(8, 1, 1, 1), **how)
    assert taken(x.flatten(0, 1).unsqueeze(1), torch.randn(1, 1, 3, 3, generator=generator), padding=1)
    assert taken(x, BLUR.expand(8, 1, 3, 3), conv_transpose2d, stride=2, padding=1, output_padding=1, groups=8)
    with fastgan.backend("cpu"):
        assert taken(x, BLUR.expand(8, 1, 3, 3), **how)


def test_where_it_is_left_to_pytorch(generator):
    x = torch.randn(4, 8, 16, 16, generator=generator)
    how = {"padding": 1, "groups": 8}
    w = BLUR.repeat(8, 1, 1, 1)
    assert not taken(x, w.clone().requires_grad_(), **how)
    another = w.clone()
    another[5, 0, 1, 2] *= 1 + 2**-23
    assert not taken(x, another, **how)
    assert not taken(x, torch.full_like(w, torch.nan), **how)
    assert not taken(x.flatten(0, 1).unsqueeze(1), torch.full((1, 1, 3, 3), torch.inf), padding=1)
    assert not taken(x, torch.randn(3, 3, generator=generator).expand(8, 1, 3, 3), **how), "not separable"
    assert not taken(x.double(), (w.double() / 3), **how), "float32 does not hold it"
    assert not taken(x.half(), w.half(), **how)
    assert not taken(x, w, dilation=2, **how)
    assert not taken(x[..., :8, :8].repeat(1, 1, 1, 1), w, **how), "small"
    assert not taken(x, BLUR.expand(8, 2, 3, 3), padding=1, groups=4)
    assert not taken(x[0], w, **how)
    with fastgan.backend("reference"):
        assert not taken(x, w, **how)


@pytest.mark.parametrize("kwargs", [{"stride": 0}, {"padding": -1}, {"stride": 2, "output_padding": 2}])
def test_pytorch_refuses_what_it_refuses(kwargs, generator):
    x, w = torch.randn(4, 8, 16, 16, generator=generator), BLUR.repeat(8, 1, 1, 1)
    ours, torchs = (conv_transpose2d, F.conv_transpose2d) if "output_padding" in kwargs else (conv2d, F.conv2d)
    with pytest.raises(RuntimeError) as expected:
        torchs(x, w, groups=8, **kwargs)
    with pytest.raises(RuntimeError) as found:
        ours(x.requires_grad_(), w, groups=8, **kwargs)
    assert str(found.value) == str(expected.value)


def test_a_filter_that_changes_afterwards_is_noticed(generator):
    x, w = torch.randn(4, 8, 16, 16, generator=generator).requires_grad_(), BLUR.repeat(8, 1, 1, 1)
    y = conv2d(x, w, padding=1, groups=8)
    w.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


class Blurred(torch.nn.Module):
    """A critic that halves its images by a blur, as R3GAN's and others."""

    def __init__(self, how):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Conv2d(16, 16, 3, padding=1)
        self.last = torch.nn.Linear(16 * 64, 1)
        self.register_buffer("kernel", BLUR.repeat(16, 1, 1, 1))
        self.how = how

    def halve(self, x):
        if self.how == "among the samples":
            pixels = F.conv2d(x.flatten(0, 1).unsqueeze(1), self.kernel[:1], stride=2, padding=1)
            return pixels.view(*x.shape[:2], *pixels.shape[2:])
        kernel = self.kernel if self.how == "repeated" else self.kernel[:1].expand(16, 1, 3, 3)
        return F.conv2d(x, kernel, stride=2, padding=1, groups=16)

    def forward(self, x):
        x = self.halve(F.leaky_relu(self.first(x), 0.2))
        return self.last(F.leaky_relu(self.second(x), 0.2).flatten(1))


def test_a_filter_in_channels_last_makes_the_result_so(generator):
    """`model.to(memory_format=torch.channels_last)` converts buffers, too."""
    x = torch.randn(4, 8, 16, 16, generator=generator, requires_grad=True)
    w = BLUR.repeat(8, 1, 1, 1).to(memory_format=torch.channels_last)
    with Calls() as calls:
        ours = conv2d(x, w, padding=1, groups=8)
    assert calls.ours == 1
    torchs = F.conv2d(x, w, padding=1, groups=8)
    assert ours.stride() == torchs.stride()
    torch.testing.assert_close(ours, torchs)


def test_a_trace_of_torchscript_has_pytorchs(generator):
    x = torch.randn(4, 8, 16, 16, generator=generator)
    traced = torch.jit.trace(lambda x: conv2d(x, BLUR.expand(8, 1, 3, 3), padding=1, groups=8), (x,))
    torch.testing.assert_close(traced(x), F.conv2d(x, BLUR.expand(8, 1, 3, 3), padding=1, groups=8))


WAYS = ["repeated", "expanded", "among the samples"]


@pytest.mark.parametrize("how", WAYS)
def test_a_compiled_critic_leaves_it_to_pytorch(how, generator, recwarn):
    """What a compiler traces has no elements to look at."""
    torch.manual_seed(3)
    critic = Blurred(how)
    real, fake = (torch.randn(4, 3, 16, 16, generator=generator) for _ in range(2))
    results = []
    for compiled in (False, True):
        critic.zero_grad()
        critic_loss(
            critic, real, fake, loss="nonsaturating", penalties=(R1(1.0),), method="one_pass", compile=compiled
        ).backward()
        results.append([p.grad.clone() for p in critic.parameters()])
    assert not [w for w in recwarn if "without the compiler" in str(w.message)]
    for compiled, eager in zip(results[1], results[0], strict=True):
        assert (compiled - eager).abs().max() <= 1e-4 * eager.abs().max()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_a_critics_penalty_takes_it(how, method, generator):
    torch.manual_seed(3)
    critic = Blurred(how).double()
    real, fake = (torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    with Calls() as calls:
        critic_loss(critic, real, fake, loss="nonsaturating", penalties=(R1(1.0),), method=method).backward()
    assert calls.ours >= 2
    found = [p.grad.clone() for p in critic.parameters()]
    critic.zero_grad()
    x = real.clone().requires_grad_()
    out = critic(x)
    (g,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    penalty = 0.5 * g.square().sum((1, 2, 3)).mean()
    (F.softplus(-out).mean() + F.softplus(critic(fake)).mean() + penalty).backward()
    for ours, p in zip(found, critic.parameters(), strict=True):
        assert (ours - p.grad).abs().max() <= 1e-12 * p.grad.abs().max()
