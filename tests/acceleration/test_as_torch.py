"""Replacements of torch's functions and layers take the same arguments and return the same: strides, scripts."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import get_testing_overrides

import fastgan
from fastgan.ops import minibatch_stddev, setup_filter, upfirdn2d
from fastgan.penalties import R1, lean
from tests.acceleration.zoo import ZOO, MinibatchDiscrimination, MinibatchStdLayer, build

# --- layers, over memory orders -------------------------------------------------------------------------------------

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(8, 8, 3, padding=1), 3),
    "conv2d 3x3": (lambda: nn.Conv2d(8, 16, 3, padding=1), 4),
    "conv2d 1x1": (lambda: nn.Conv2d(8, 16, 1), 4),
    "conv2d 4x4, stride 2": (lambda: nn.Conv2d(8, 8, 4, 2, 1), 4),
    "conv2d 5x5": (lambda: nn.Conv2d(8, 8, 5, padding="same"), 4),
    "conv2d grouped": (lambda: nn.Conv2d(8, 8, 3, groups=4), 4),
    "conv2d of the whole image": (lambda: nn.Conv2d(8, 8, 8), 4),
    "conv2d of one image": (lambda: nn.Conv2d(8, 16, 3, padding=1), 3),
    "transposed 2d of one image": (lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1), 3),
    "conv3d": (lambda: nn.Conv3d(8, 4, 2), 5),
    "transposed 1d": (lambda: nn.ConvTranspose1d(8, 4, 4, 2, 1), 3),
    "transposed 2d": (lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1), 4),
    "transposed 3d": (lambda: nn.ConvTranspose3d(8, 4, 2), 5),
    "leaky relu": (lambda: nn.LeakyReLU(0.2), 4),
    "leaky relu in place": (lambda: nn.LeakyReLU(0.2, inplace=True), 4),
    "relu": (nn.ReLU, 4),
    "relu of vectors": (nn.ReLU, 2),
    "prelu": (lambda: nn.PReLU(8), 4),
    "hardtanh": (nn.Hardtanh, 4),
    "relu6": (nn.ReLU6, 4),
    "tanh": (nn.Tanh, 4),
    "tanh of vectors": (nn.Tanh, 2),
    "softplus": (lambda: nn.Softplus(threshold=50), 4),
    "in a sequential": (lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()), 4),
    "linear and relu": (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU()), 3),
    "minibatch discrimination": (lambda: MinibatchDiscrimination(8, 4, 3), 2),
    "minibatch standard deviation": (lambda: MinibatchStdLayer(2), 4),
}
SAVES_ITS_RESULT = {
    "leaky relu in place", "relu", "relu of vectors", "tanh", "tanh of vectors", "in a sequential", "linear and relu"
}  # fmt: skip
SIZES = {2: (8, 8), 3: (8, 8, 8), 4: (4, 8, 8, 8), 5: (4, 8, 4, 4, 4)}


def channels_last(t):
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return t.to(memory_format=formats[t.ndim]) if t.ndim in formats else t


ORDERS = {
    "contiguous": lambda t: t,
    "channels last": channels_last,
    "reversed": lambda t: t.permute(*reversed(range(t.ndim))).contiguous().permute(*reversed(range(t.ndim))),
    "samples innermost": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "cut": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]],
    "cut channels": lambda t: channels_last(torch.cat([t, t], 1))[:, : t.shape[1]],
}


def outcome(layer, x, change):
    """Result and gradient, their strides, and those where the result is changed in place."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x.clone(memory_format=torch.preserve_format))
    strides = y.stride()
    if change:
        y.add_(1)
    (dx,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    dx.square().sum().backward(inputs=list(layer.parameters()) or [x])
    gradients = [p.grad for p in layer.parameters() if p.grad is not None]
    return (strides, dx.stride()), [y.detach(), dx.detach(), *gradients]


@pytest.mark.parametrize("weights_last", [False, True], ids=["weights contiguous", "weights channels last"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_torchs_strides_in_every_memory_order(name, weights_last, pairs, generator):
    make, ndim = LAYERS[name]
    torch.manual_seed(generator.initial_seed())
    original = make().double()
    if weights_last:
        if name == "minibatch discrimination" or not any(p.ndim in (4, 5) for p in original.parameters()):
            return
        for p in original.parameters():
            p.data = channels_last(p.data)
    layer = copy.deepcopy(original)
    assert fastgan.accelerate(layer).replaced
    for label, arrange in ORDERS.items():
        x = arrange(torch.randn(SIZES[ndim], generator=generator, dtype=torch.float64))
        for change in (False, True):
            if change and name in SAVES_ITS_RESULT:
                for m in (layer, original):
                    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                        outcome(m, x, change)
                continue
            expected, found = outcome(original, x, change), outcome(layer, x, change)
            assert found[0] == expected[0], label
            for a, b in zip(found[1], expected[1], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("act", [F.relu, F.leaky_relu, torch.tanh, fastgan.ops.bias_act], ids=lambda act: act.__name__)
def test_the_one_pass_shows_a_critic_torchs_strides(act, order, generator):
    """Where they differ, `.view` fails and dropout draws another mask."""
    x = torch.randn(SIZES[4], generator=generator, dtype=torch.float64)
    seen = []

    class Critic(nn.Module):
        def forward(self, x):
            h = act(ORDERS[order](x))
            seen.append(h.stride())
            return F.dropout(h, 0.5).flatten(1).sum(1)

    fastgan.critic_loss(Critic(), x, x + 0.1, penalties=(R1(1.0),))
    assert set(seen) == {act(ORDERS[order](x)).stride()}


class InPlace(nn.Module):
    """Results of every kind of layer, changed in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.stride = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 4, 2, 1)
        self.pixel, self.up = nn.Conv2d(8, 8, 1), nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.f = setup_filter([1, 3, 3, 1])

    def forward(self, x):
        h = self.conv(x).add_(1)
        h = F.leaky_relu_(upfirdn2d(h, self.f, padding=2).mul_(2), 0.2)
        h = F.relu_(self.stride(h))
        h = self.up(h).mul_(0.5)
        h = self.pixel(h).add_(h)
        return minibatch_stddev(h, 2).mul_(2).flatten(1).sum(1)


class OfSamples(InPlace):
    """The same, sample by sample."""

    def forward(self, x):
        h = F.leaky_relu_(upfirdn2d(self.conv(x).add_(1), self.f, padding=2).mul_(2), 0.2)
        h = F.relu_(self.stride(h))
        return self.pixel(self.up(h).mul_(0.5)).mul_(2).flatten(1).sum(1)


@pytest.mark.parametrize("critic", [InPlace, OfSamples])
@pytest.mark.parametrize("order", ORDERS)
def test_results_may_be_changed_in_place_in_critics(critic, order, generator):
    torch.manual_seed(generator.initial_seed())
    original = critic().double()
    x = ORDERS[order](torch.randn(4, 8, 8, 8, generator=generator, dtype=torch.float64))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        original.to(memory_format=memory_format)
        results = []
        for way in ("torch", "accelerate", "accelerated", "critic_loss"):
            model = copy.deepcopy(original)
            if way == "accelerate":
                fastgan.accelerate(model)
            if way == "critic_loss":
                total = fastgan.critic_loss(model, x, x.flip(0), loss=lambda a, b: a.mean(), penalties=(R1(2.0),))
                assert total.method == ("one_pass" if critic is OfSamples else "double_backward")
            else:
                point = x.clone(memory_format=torch.preserve_format).requires_grad_()
                with fastgan.accelerated() if way == "accelerated" else torch.enable_grad():
                    y = model(point)
                (g,) = torch.autograd.grad(y.sum(), point, create_graph=True)
                total = y.mean() + g.square().sum((1, 2, 3)).mean()
            total.backward()
            results.append([p.grad for p in model.parameters()])
        for found in results[1:]:
            for a, b in zip(found, results[0], strict=True):
                if a is not None or b is not None:
                    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


# --- functions, over keywords ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", lean._OURS, ids=lambda f: getattr(f, "__qualname__", f.__name__))
def test_a_function_knows_the_arguments_of_torchs_in_their_order(function):
    ours = list(inspect.signature(lean._OURS[function]).parameters)
    torchs = get_testing_overrides().get(function)
    if torchs is not None:  # which is written by hand: once wrongly, and in place is not an argument of relu_
        named = [n.replace("output_adding", "output_padding") for n in inspect.signature(torchs).parameters]
        known = [n for n in named if n != "out" and not (n == "inplace" and function.__name__.endswith("_"))]
        assert ours[: len(known)] == known


T = torch.linspace(-2, 2, 12).view(3, 4)
IMAGE, FILTERS = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
KEYWORDS = {
    "out": lambda t: torch.abs(t.detach(), out=torch.empty(0)),
    "out by name": lambda t: torch.absolute(input=t.detach(), out=torch.empty(3, 4)),
    "numpy's x": lambda t: torch.abs(x=t),
    "numpy's a": lambda t: torch.absolute(a=t),
    "input": lambda t: torch.relu(input=t),
    "inplace": lambda t: F.relu(input=t * 1, inplace=True),
    "slope": lambda t: F.leaky_relu(t, negative_slope=0.3, inplace=False),
    "slope in place": lambda t: F.leaky_relu_(input=t * 1, negative_slope=0.3),
    "bounds": lambda t: F.hardtanh(t, max_val=0.5, min_val=-0.5),
    "bounds in place": lambda t: F.hardtanh(t * 1, -0.5, 0.5, inplace=True),
    "relu6": lambda t: F.relu6(t * 1, inplace=True),
    "prelu": lambda t: torch.prelu(weight=torch.ones(1), input=t),
    "method": lambda t: t.prelu(weight=torch.full((4,), 0.1)),
    "conv": lambda t: F.conv2d(weight=FILTERS, input=IMAGE * t.sum(), stride=(2,), padding="valid", groups=1),
    "conv by position": lambda t: torch.conv2d(IMAGE * t.sum(), FILTERS, None, 1, "same", 2, 1),
    "transposed": lambda t: F.conv_transpose2d(
        IMAGE * t.sum(), FILTERS.transpose(0, 1), dilation=1, groups=1, output_padding=1, stride=2
    ),
    "convolution": lambda t: torch.convolution(
        IMAGE * t.sum(), FILTERS, bias=None, stride=[1, 1], padding=[1, 1], dilation=[1, 1], transposed=False,
        output_padding=[0, 0], groups=1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYWORDS)
def test_torchs_keywords_work_inside_of_accelerated(name):
    t = T.clone().requires_grad_()
    expected = KEYWORDS[name](t)
    with fastgan.accelerated():
        found = KEYWORDS[name](t)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if expected.requires_grad:
        torch.testing.assert_close(
            *(torch.autograd.grad(y.sum(), t)[0] for y in (found, expected)), rtol=1e-4, atol=1e-4
        )


class Shifted(torch.Tensor):
    """A subclass to which relu means something else."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        found = super().__torch_function__(func, types, args, kwargs)
        return found + 1 if func is F.relu else found


def test_a_subclass_of_tensor_keeps_its_own_functions():
    t = T.clone().requires_grad_().as_subclass(Shifted)
    with fastgan.accelerated():
        assert torch.equal(F.relu(t), F.relu(T) + 1)


# --- scripts and further derivatives --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [n for n in LAYERS if not n.startswith("minibatch")])
def test_a_layer_can_be_scripted_and_saved(name, pairs, generator, tmp_path):
    make, ndim = LAYERS[name]
    torch.manual_seed(generator.initial_seed())
    layer = make()
    x = torch.randn(SIZES[ndim], generator=generator)
    expected = layer(x.clone())
    fastgan.accelerate(layer)
    kinds = [type(m) for m in layer.modules()]
    scripted = torch.jit.script(layer)
    torch.jit.save(scripted, tmp_path / "layer.pt")
    for found in (scripted(x.clone()), torch.jit.load(tmp_path / "layer.pt")(x.clone()), layer(x.clone())):
        torch.testing.assert_close(found, expected)
    assert [type(m) for m in layer.modules()] == kinds


def third(model, x):
    parameters = [p for p in model.parameters() if p.requires_grad]
    x = x.clone().requires_grad_()
    value = model(x).square().sum()
    for _ in range(2):
        gradients = torch.autograd.grad(value, [x, *parameters], create_graph=True, allow_unused=True)
        value = sum(g.square().sum() for g in gradients if g is not None)
    found = torch.autograd.grad(value, [x, *parameters], allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip([x, *parameters], found, strict=True)]


@pytest.mark.parametrize("name", ZOO)
def test_a_third_derivative_is_torchs(name, generator):
    model, original, x = build(name, generator)
    fastgan.accelerate(model)
    model.eval(), original.eval()
    found = third(model, x)
    if name == "dcgan-generator":
        with pytest.raises(RuntimeError, match="output_padding is not supported"):  # PyTorch's own fault
            third(original, x)
        return
    expected = third(original, x)
    scale = max(float(b.abs().max()) for b in expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11 * scale)
