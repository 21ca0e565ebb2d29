"""Errors of StyleGAN2's layers about sizes, shapes and names: the argument, what came, what was expected."""

import re

import numpy as np
import pytest
import torch

from fastgan.models import StyleGAN2Critic, StyleGAN2Generator
from fastgan.nn import (
    BiasAct,
    Blur,
    Downsample,
    EqualizedConv2d,
    EqualizedLinear,
    MappingNetwork,
    MinibatchDiscrimination,
    ModulatedConv2d,
    NoiseInjection,
    StyledConv,
    ToRGB,
    Upsample,
)

COUNT = "expected an integer of at least 1"
ARGUMENTS = [
    (BiasAct, {"num_features": 0}, f"num_features is 0, {COUNT}"),
    (BiasAct, {"num_features": 3, "act": "gelu"}, "act is 'gelu', expected one of linear, relu"),
    (BiasAct, {"num_features": 3, "act": "relu", "alpha": 0.1}, "alpha is 0.1, but relu has no parameter"),
    (EqualizedLinear, {"in_features": 0}, f"in_features is 0, {COUNT}"),
    (EqualizedLinear, {"out_features": -1}, f"out_features is -1, {COUNT}"),
    (EqualizedLinear, {"out_features": 2.0}, f"out_features is 2.0, {COUNT}"),
    (EqualizedLinear, {"act": "gelu"}, "act is 'gelu', expected one of linear, relu"),
    (EqualizedLinear, {"lr_multiplier": 0}, "lr_multiplier is 0, expected a finite number > 0"),
    (EqualizedLinear, {"lr_multiplier": "a"}, "lr_multiplier is 'a', expected a finite number > 0"),
    (MinibatchDiscrimination, {"out_features": 2.5}, f"out_features is 2.5, {COUNT}"),
    (MinibatchDiscrimination, {"kernel_dims": "3"}, f"kernel_dims is '3', {COUNT}"),
    (EqualizedConv2d, {"in_channels": 0}, f"in_channels is 0, {COUNT}"),
    (EqualizedConv2d, {"out_channels": "4"}, f"out_channels is '4', {COUNT}"),
    (EqualizedConv2d, {"kernel_size": 2}, "kernel_size is 2, expected an odd number of at least 1"),
    (EqualizedConv2d, {"kernel_size": (3, 3)}, "kernel_size is (3, 3), expected an odd number of at least 1"),
    (EqualizedConv2d, {"kernel_size": -1}, "kernel_size is -1, expected an odd number of at least 1"),
    (EqualizedConv2d, {"up": 0}, f"up is 0, {COUNT}"),
    (EqualizedConv2d, {"down": 0.5}, f"down is 0.5, {COUNT}"),
    (EqualizedConv2d, {"act": "gelu"}, "act is 'gelu', expected one of linear, relu"),
    (EqualizedConv2d, {"clamp": -1.0}, "clamp is -1.0, expected a bound >= 0 or None"),
    (ModulatedConv2d, {"in_channels": 0}, f"in_channels is 0, {COUNT}"),
    (ModulatedConv2d, {"out_channels": 0}, f"out_channels is 0, {COUNT}"),
    (ModulatedConv2d, {"kernel_size": 4}, "kernel_size is 4, expected an odd number of at least 1"),
    (ModulatedConv2d, {"w_dim": 0}, f"w_dim is 0, {COUNT}"),
    (ModulatedConv2d, {"up": 0}, f"up is 0, {COUNT}"),
    (StyledConv, {"w_dim": 0}, f"w_dim is 0, {COUNT}"),
    (StyledConv, {"size": 8}, "size is 8, expected height and width"),
    (StyledConv, {"size": (8, 8, 8)}, "size is (8, 8, 8), expected height and width"),
    (StyledConv, {"size": (8, 0)}, "size is (8, 0), expected height and width, integers of at least 1"),
    (StyledConv, {"size": (8, 7), "up": 2}, "size is (8, 7), expected height and width, integers of at least 1, mult"),
    (StyledConv, {"act": "gelu"}, "act is 'gelu', expected one of linear, relu"),
    (StyledConv, {"clamp": -1.0}, "clamp is -1.0, expected a bound >= 0 or None"),
    (ToRGB, {"out_channels": 0}, f"out_channels is 0, {COUNT}"),
    (ToRGB, {"clamp": -1.0}, "clamp is -1.0, expected a bound >= 0 or None"),
    (NoiseInjection, {"size": 8}, "size is 8, expected height and width"),
    (MappingNetwork, {"num_layers": 0}, f"num_layers is 0, {COUNT}"),
    (MappingNetwork, {"z_dim": 0}, f"z_dim is 0, {COUNT}"),
    (MappingNetwork, {"w_dim": 0}, f"w_dim is 0, {COUNT}"),
    (MappingNetwork, {"w_avg_decay": 1.5}, "w_avg_decay is 1.5, expected a number from 0 to 1"),
    (Blur, {"filter": "taps"}, "Blur: filter is 'taps', expected a tensor, list or number"),
    (Blur, {"filter": [[1, 2], [3]]}, "Blur: filter is [[1, 2], [3]], expected a tensor, list or number"),
    (Blur, {"filter": []}, "Blur: filter has shape [0], expected [], [n] or [height, width]"),
    (Blur, {"filter": [1, -1]}, "Blur: the taps of filter add up to 0"),
    (Blur, {"padding": (1, 2, 3)}, "padding is (1, 2, 3), expected an int, (x, y) or (x0, x1, y0, y1)"),
    (Upsample, {"factor": 0}, "factor is 0, expected rates of at least 1"),
    (Upsample, {"factor": (2, 2, 2)}, "factor is (2, 2, 2), expected an int or (x, y)"),
    (Downsample, {"factor": 1.5}, "factor is 1.5, expected an int or (x, y)"),
    (StyleGAN2Generator, {"channels": 0}, f"channels is 0, {COUNT}"),
    (StyleGAN2Generator, {"z_dim": 0}, f"z_dim is 0, {COUNT}"),
    (StyleGAN2Generator, {"w_dim": 0}, f"w_dim is 0, {COUNT}"),
    (StyleGAN2Generator, {"width": 0}, f"width is 0, {COUNT}"),
    (StyleGAN2Generator, {"max_width": 0}, f"max_width is 0, {COUNT}"),
    (StyleGAN2Generator, {"mapping_layers": 0}, f"num_layers is 0, {COUNT}"),
    (StyleGAN2Generator, {"mixing_probability": 1.1}, "mixing_probability is 1.1, expected a number from 0 to 1"),
    (StyleGAN2Generator, {"resolution": (16,)}, "resolution is (16,), expected an integer or (height, width)"),
    (StyleGAN2Generator, {"resolution": 16.0}, "resolution is 16.0, expected an integer or (height, width)"),
    (StyleGAN2Generator, {"resolution": "16"}, "resolution is '16', expected an integer or (height, width)"),
    (StyleGAN2Critic, {"channels": 0}, f"channels is 0, {COUNT}"),
    (StyleGAN2Critic, {"width": 0}, f"width is 0, {COUNT}"),
    (StyleGAN2Critic, {"max_width": -1}, f"max_width is -1, {COUNT}"),
    (StyleGAN2Critic, {"group_size": -1}, "group_size is -1, expected at least 1 or None"),
    (StyleGAN2Critic, {"resolution": (16, 16.0)}, "resolution is (16, 16.0), expected an integer or (height, width)"),
]
GOOD = {
    BiasAct: {},
    EqualizedLinear: {"in_features": 3, "out_features": 4},
    EqualizedConv2d: {"in_channels": 3, "out_channels": 4, "kernel_size": 3},
    ModulatedConv2d: {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "w_dim": 5},
    StyledConv: {"in_channels": 3, "out_channels": 4, "w_dim": 5, "size": (8, 8)},
    ToRGB: {"in_channels": 3, "out_channels": 4, "w_dim": 5},
    NoiseInjection: {},
    MappingNetwork: {"z_dim": 6, "w_dim": 5},
    Blur: {},
    MinibatchDiscrimination: {"in_features": 5, "out_features": 3, "kernel_dims": 2},
    Upsample: {},
    Downsample: {},
    StyleGAN2Generator: {"resolution": 16, "z_dim": 6, "w_dim": 6, "mapping_layers": 2, "width": 64, "max_width": 8},
    StyleGAN2Critic: {"resolution": 16, "width": 64, "max_width": 8},
}


@pytest.mark.parametrize(("layer", "change", "message"), ARGUMENTS)
def test_arguments(layer, change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        layer(**{**GOOD[layer], **change})
    if layer not in (Blur, StyleGAN2Generator, StyleGAN2Critic):  # which leave some checks to the parts they have
        assert str(error.value).startswith(f"{layer.__name__}: ")


def zeros(*size):
    return torch.zeros(size)


LATENT, IMAGE = zeros(2, 5), zeros(2, 3, 8, 8)
INPUTS = [
    (EqualizedLinear, {}, (zeros(2, 4),), "x has shape [2, 4], expected [..., 3]"),
    (EqualizedLinear, {}, (torch.tensor(1.0),), "x has shape [], expected [..., 3]"),
    (EqualizedConv2d, {}, (zeros(2, 4, 8, 8),), "x has shape [2, 4, 8, 8], expected [batch, 3, height, width]"),
    (EqualizedConv2d, {}, (zeros(3, 8, 8),), "x has shape [3, 8, 8], expected [batch, 3, height, width]"),
    (EqualizedConv2d, {"up": 2}, (zeros(2, 3, 8, 0),), "x has shape [2, 3, 8, 0], expected [batch, channels, height"),
    (EqualizedConv2d, {"down": 2}, (zeros(2, 3, 8, 1),), "x has shape [2, 3, 8, 1], expected an image that leaves"),
    (ModulatedConv2d, {}, (zeros(2, 4, 8, 8), LATENT), "x has shape [2, 4, 8, 8], expected [batch, 3, height, width]"),
    (ModulatedConv2d, {}, (zeros(3, 8, 8), LATENT), "x has shape [3, 8, 8], expected [batch, 3, height, width]"),
    (ModulatedConv2d, {}, (zeros(2, 3, 0, 8), LATENT), "x has shape [2, 3, 0, 8], expected [batch, channels, height"),
    (ModulatedConv2d, {}, (IMAGE, zeros(2, 4)), "w has shape [2, 4], expected [2, 5]"),
    (ModulatedConv2d, {}, (IMAGE, zeros(1, 5)), "w has shape [1, 5], expected [2, 5]"),
    (ModulatedConv2d, {}, (IMAGE, zeros(2, 1, 5)), "w has shape [2, 1, 5], expected [2, 5]"),
    (StyledConv, {}, (zeros(2, 4, 8, 8), LATENT), "x has shape [2, 4, 8, 8], expected [batch, 3, height, width]"),
    (StyledConv, {}, (IMAGE, zeros(2, 4)), "w has shape [2, 4], expected [2, 5]"),
    (StyledConv, {}, (zeros(2, 3, 4, 8), LATENT), "x has shape [2, 3, 4, 8], expected [batch, channels, 8, 8] for the"),
    (StyledConv, {"up": 2}, (IMAGE, LATENT), "x has shape [2, 3, 8, 8], expected [batch, channels, 4, 4] for the"),
    (StyledConv, {}, (zeros(2, 3, 4, 8), LATENT, "const"), "x has shape [2, 3, 4, 8], expected [batch, channels, 8, 8"),
    (StyledConv, {}, (IMAGE, LATENT, "fixed"), "noise is 'fixed', expected random, const or none"),
    (StyledConv, {}, (IMAGE, LATENT, None), "noise is None, expected random, const or none"),
    (ToRGB, {}, (zeros(2, 4, 8, 8), LATENT), "x has shape [2, 4, 8, 8], expected [batch, 3, height, width]"),
    (ToRGB, {}, (IMAGE, zeros(3, 5)), "w has shape [3, 5], expected [2, 5]"),
    (NoiseInjection, {}, (zeros(2, 3),), "x has shape [2, 3], expected [batch, channels, height, width]"),
    (NoiseInjection, {"size": (8, 1)}, (IMAGE,), "x has shape [2, 3, 8, 8], expected [batch, channels, 8, 1] for the"),
    (NoiseInjection, {"size": (1, 1)}, (IMAGE, "const"), "x has shape [2, 3, 8, 8], expected [batch, channels, 1, 1]"),
    (NoiseInjection, {}, (IMAGE, "const"), "noise is 'const', but the layer was built without a size"),
    (MappingNetwork, {}, (zeros(2, 5),), "z has shape [2, 5], expected [batch, 6]"),
    (MappingNetwork, {}, (zeros(6),), "z has shape [6], expected [batch, 6]"),
    (MappingNetwork, {}, (zeros(2, 1, 6),), "z has shape [2, 1, 6], expected [batch, 6]"),
    (Blur, {}, (zeros(3, 8, 8),), "x has shape [3, 8, 8], expected [batch, channels, height, width]"),
    (Blur, {"padding": -3}, (IMAGE,), "padding is (-3, -3, -3, -3), expected at least the filter's size, [4, 4]"),
    (Upsample, {}, (zeros(2, 3, 8, 0),), "x has shape [2, 3, 8, 0], expected [batch, channels, height, width]"),
    (Downsample, {}, (zeros(2, 3, 8, 1),), "the filter's size, [4, 4], to be left of an image of [8, 1] pixels"),
    (StyleGAN2Generator, {}, (zeros(2, 5),), "z has shape [2, 5], expected [batch, 6]"),
    (StyleGAN2Generator, {}, (zeros(2, 6), 1.0, "fixed"), "noise is 'fixed', expected random, const or none"),
    (StyleGAN2Critic, {}, (zeros(2, 1, 16, 16),), "images has shape [2, 1, 16, 16], expected [batch, 3, 16, 16]"),
    (StyleGAN2Critic, {}, (zeros(2, 3, 16, 32),), "images has shape [2, 3, 16, 32], expected [batch, 3, 16, 16]"),
    (StyleGAN2Critic, {}, (zeros(3, 16, 16),), "images has shape [3, 16, 16], expected [batch, 3, 16, 16]"),
]


@pytest.mark.parametrize(("layer", "change", "inputs", "message"), INPUTS)
def test_inputs(layer, change, inputs, message):
    module = layer(**{**GOOD[layer], **change})
    with pytest.raises(ValueError, match=re.escape(message)):
        module(*inputs)


@pytest.mark.parametrize("ws", [zeros(2, 5, 6), zeros(2, 7, 6), zeros(2, 6, 5), zeros(2, 6)])
def test_ws_of_another_number_or_width(ws):
    """One too many would be left out, one too few used twice, without a word."""
    network = StyleGAN2Generator(**GOOD[StyleGAN2Generator])
    with pytest.raises(ValueError, match=re.escape(f"ws has shape {list(ws.shape)}, expected [batch, 6, 6]")):
        network.synthesis(ws)


@pytest.mark.parametrize("layer", [EqualizedLinear, EqualizedConv2d, NoiseInjection, MappingNetwork, StyleGAN2Critic])
@pytest.mark.parametrize("value", [[1.0], torch.zeros(2, 3, 16, 16, dtype=torch.uint8), None])
def test_inputs_that_are_no_floating_tensors(layer, value):
    with pytest.raises(TypeError, match=r"is (list|torch\.uint8|NoneType), expected a floating-point tensor"):
        layer(**GOOD[layer])(value)


def test_counts_may_be_of_numpy():
    assert EqualizedConv2d(np.int64(3), np.int32(4), 3)(IMAGE).shape == (2, 4, 8, 8)
