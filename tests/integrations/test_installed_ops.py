"""Each function of either code base against the original, with arguments of every kind, and the calls it declines."""

import importlib
import importlib.util

import pytest
import torch

from fastgan.integrations import stylegan

from .conftest import CODE
from .derivatives import assert_same, derivatives


def draw(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def with_and_without(module, name, tensors, call):
    """`call(function, *tensors)` with the original and with what `install` puts in its place."""
    original = getattr(importlib.import_module(module), name)
    theirs = derivatives(lambda *t: call(original, *t), tensors)
    with stylegan.installed():
        replaced = getattr(importlib.import_module(module), name)
        assert replaced is not original
        ours = derivatives(lambda *t: call(replaced, *t), tensors)
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"act": "lrelu", "alpha": 0.1, "gain": 1.5, "clamp": 0.8},
        {"act": "relu", "alpha": 0.3, "impl": "ref"},
        {"act": "swish", "dim": 3},
        {"act": "tanh", "dim": 0, "gain": 2},
    ],
)
def test_nvidia_bias_act(arguments, codebase, generator):
    codebase("nvidia")
    tensors = [draw(generator, 3, 4, 5, 6), draw(generator, (3, 4, 5, 6)[arguments.get("dim", 1)])]
    with_and_without("torch_utils.ops.bias_act", "bias_act", tensors, lambda f, x, b: f(x, b, **arguments))


def test_nvidia_bias_act_without_a_bias_and_in_two_dimensions(codebase, generator):
    codebase("nvidia")
    module = "torch_utils.ops.bias_act", "bias_act"
    with_and_without(*module, [draw(generator, 3, 4)], lambda f, x: f(x, None, 1, "lrelu"))
    with_and_without(*module, [draw(generator, 3, 4), draw(generator, 4)], lambda f, x, b: f(x, b))


FILTERS = {
    "upfirdn2d": {"up": 2, "down": [1, 3], "padding": [1, 2, 3, 0], "gain": 1.5},
    "filter2d": {"padding": [1, 0], "flip_filter": True},
    "upsample2d": {"up": [2, 1], "gain": 0.5},
    "downsample2d": {"down": 2, "padding": 1, "impl": "ref"},
}


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 4, 3, 5, 7, 2, 1], [[1, 2, 3], [0, 1, 5]], None])
@pytest.mark.parametrize("name", FILTERS)
def test_nvidia_resampling(name, taps, codebase, generator):
    codebase("nvidia")
    setup_filter = importlib.import_module("torch_utils.ops.upfirdn2d").setup_filter
    f = None if taps is None else setup_filter(taps)
    x = [draw(generator, 2, 3, 12, 13)]
    with_and_without("torch_utils.ops.upfirdn2d", name, x, lambda function, x: function(x, f, **FILTERS[name]))


@pytest.mark.parametrize("separable", [None, True, False])
def test_nvidia_setup_filter(separable, codebase):
    codebase("nvidia")
    original = importlib.import_module("torch_utils.ops.upfirdn2d").setup_filter
    with stylegan.installed():
        replaced = importlib.import_module("torch_utils.ops.upfirdn2d").setup_filter
        for taps in ([1, 3, 3, 1], list(range(1, 9)), 2):
            for options in ({}, {"normalize": False, "gain": 4}, {"flip_filter": True}):
                if separable is False and taps == 2:
                    continue
                ours, theirs = (f(taps, separable=separable, **options) for f in (replaced, original))
                assert ours.dtype == theirs.dtype == torch.float32
                torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": 1},
        {"padding": [2, 0], "groups": 2, "flip_weight": False},
        {"up": 2, "padding": 1, "flip_weight": False},
        {"up": 2, "padding": [1, 0, 2, 1], "flip_filter": True},
        {"down": 2, "padding": 1},
        {"up": 3, "down": 2, "padding": 1, "groups": 2},
    ],
)
def test_nvidia_conv2d_resample(arguments, codebase, generator):
    codebase("nvidia")
    f = importlib.import_module("torch_utils.ops.upfirdn2d").setup_filter([1, 3, 2, 1])
    tensors = [draw(generator, 2, 4, 7, 6), draw(generator, 6, 4 // arguments.get("groups", 1), 3, 3)]
    module = "torch_utils.ops.conv2d_resample", "conv2d_resample"
    with_and_without(*module, tensors, lambda function, x, w: function(x, w, f, **arguments))


def test_nvidia_convolutions(codebase, generator):
    codebase("nvidia")
    tensors = [draw(generator, 2, 4, 7, 6), draw(generator, 4, 2, 3, 3), draw(generator, 4)]
    module = "torch_utils.ops.conv2d_gradfix"
    with_and_without(module, "conv2d", tensors, lambda f, x, w, b: f(x, w, b, stride=2, padding=1, groups=2))
    transposed = [tensors[0], draw(generator, 4, 3, 3, 3)]
    with_and_without(module, "conv_transpose2d", transposed, lambda f, x, w: f(x, w, None, 2, 1, output_padding=1))


@pytest.mark.parametrize("noise", [None, (14, 12), (1, 1, 14, 12), (3, 1, 14, 12)])
@pytest.mark.parametrize("demodulate", [True, False])
def test_nvidia_modulated_conv2d(noise, demodulate, codebase, generator):
    codebase("nvidia")
    f = importlib.import_module("torch_utils.ops.upfirdn2d").setup_filter([1, 3, 3, 1])
    tensors = [draw(generator, 3, 4, 7, 6), draw(generator, 5, 4, 3, 3), draw(generator, 3, 4)]
    tensors += [] if noise is None else [draw(generator, *noise)]

    def call(function, x, weight, styles, noise=None):
        return function(
            x=x, weight=weight, styles=styles, noise=noise, up=2, padding=1, resample_filter=f, demodulate=demodulate,
            flip_weight=False, fused_modconv=False,
        )  # fmt: skip

    with_and_without("training.networks_stylegan2", "modulated_conv2d", tensors, call)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 6)])
def test_rosinality_fused_leaky_relu(shape, codebase, generator):
    codebase("rosinality")
    module = "op.fused_act", "fused_leaky_relu"
    tensors = [draw(generator, *shape), draw(generator, 3)]
    with_and_without(*module, tensors, lambda f, x, b: f(x, b))
    with_and_without(*module, tensors, lambda f, x, b: f(x, b, negative_slope=0.1, scale=1.5))
    with_and_without(*module, tensors[:1], lambda f, x: f(x))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"up": 2, "pad": (2, 1)}, {"up": (2, 1), "down": (1, 2), "pad": (1, 2, 3, 0)}, {"down": 2, "pad": (-1, 2)}],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rosinality_upfirdn2d(arguments, dtype, codebase, generator):
    """The kernel is convolved with: an asymmetric one shows that it is flipped."""
    codebase("rosinality")
    kernel = torch.randint(1, 9, (3, 4), generator=generator).to(dtype) / 16
    x = [draw(generator, 2, 3, 9, 8)]
    with_and_without("op", "upfirdn2d", x, lambda function, x: function(x, kernel, **arguments))


def test_rosinality_convolutions(codebase, generator):
    codebase("rosinality")
    tensors = [draw(generator, 2, 4, 7, 6), draw(generator, 4, 2, 3, 3)]
    with_and_without("op.conv2d_gradfix", "conv2d", tensors, lambda f, x, w: f(x, w, padding=1, groups=2))


# --- what is declined ----------------------------------------------------------------------------------------------


def test_calls_that_fastgan_does_not_take_run_the_original_and_say_so_once(codebase, generator, recwarn):
    codebase("nvidia")
    stylegan.install()
    from torch_utils.ops import bias_act, upfirdn2d
    from training import networks_stylegan2 as networks

    x = draw(generator, 2, 3, 4, 4)
    with pytest.warns(
        RuntimeWarning, match=r"torch_utils.ops.bias_act.bias_act: act is 'sine', and fastgan takes .*lrelu.*: the"
    ):
        y = bias_act.bias_act(x, act="sine")
    torch.testing.assert_close(y, x.sin())
    recwarn.clear()
    bias_act.bias_act(x, act="sine")
    assert not recwarn.list
    with pytest.warns(RuntimeWarning, match="alpha is -1, and fastgan takes slopes >= 0"):
        torch.testing.assert_close(bias_act.bias_act(x, act="lrelu", alpha=-1, gain=1), x.abs())
    with pytest.warns(RuntimeWarning, match="the filter is a tensor that requires a gradient"):
        y = upfirdn2d.filter2d(x, torch.ones(3, 3, requires_grad=True))
    assert y.requires_grad
    weight, styles = draw(generator, 5, 3, 1, 1), draw(generator, 2, 3)
    noise = draw(generator, 2, 5, 4, 4)
    with pytest.warns(RuntimeWarning, match=r"modulated_conv2d: noise is of shape \[2, 5, 4, 4\]"):
        noisy = networks.modulated_conv2d(x, weight, styles, noise=noise)
    torch.testing.assert_close(noisy, networks.modulated_conv2d(x, weight, styles) + noise)
    with pytest.warns(RuntimeWarning, match=r"bias_act: x is torch.int64, and fastgan takes floating-point tensors"):
        assert torch.equal(bias_act.bias_act(torch.arange(3)), torch.arange(3))


def test_without_an_original_they_are_refused(codebase, compiling, generator):
    codebase(compiling)
    stylegan.install()
    import op

    x = draw(generator, 2, 3, 4, 4)
    with pytest.raises(
        ValueError,
        match=r"op.fused_act.fused_leaky_relu: negative_slope is -1, and fastgan takes slopes >= 0; the original",
    ):
        op.fused_leaky_relu(x, None, -1)
    with pytest.raises(ValueError, match=r"bias is of shape \[3, 1\]"):
        op.fused_leaky_relu(x, torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"input is torch\.int64"):
        op.FusedLeakyReLU(3)(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="kernel is a tensor that requires a gradient"):
        op.upfirdn2d(x, torch.ones(2, 2, requires_grad=True))
    with pytest.raises(ValueError, match=r"kernel is torch\.float64 with other values"):
        op.upfirdn2d(x, torch.full((2, 2), 1 / 3, dtype=torch.float64))


def test_what_is_provided_is_what_the_original_would_be(codebase, compiling, generator):
    """The original's code, loaded under other names, against the modules that stand in for it."""
    codebase(compiling)
    stylegan.install()
    import op

    originals = {}
    for name in ("fused_act", "upfirdn2d"):
        spec = importlib.util.spec_from_file_location(f"original_{name}", CODE / "rosinality" / "op" / f"{name}.py")
        originals[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(originals[name])
    layers = [module.FusedLeakyReLU(3, negative_slope=0.3).double() for module in (op, originals["fused_act"])]
    bias = draw(generator, 3)
    for layer in layers:
        assert list(layer.state_dict()) == ["bias"]
        layer.load_state_dict({"bias": bias})
    x = [draw(generator, 4, 3, 5, 5)]
    assert_same(derivatives(layers[0], x), derivatives(layers[1], x))
    assert list(op.FusedLeakyReLU(3, bias=False).parameters()) == []
    kernel = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    functions = op.upfirdn2d, originals["upfirdn2d"].upfirdn2d
    ours, theirs = (derivatives(lambda x, f=f: f(x, kernel, 2, (1, 2), (1, 0)), x) for f in functions)
    assert_same(ours, theirs)
