"""Modules that have computed something can be copied and saved: what they keep of a call holds no graph."""

import copy
import inspect
import io

import pytest
import torch
from torch import nn

import fastgan.nn
from fastgan.nn import reference_batch, spectral_norm_
from fastgan.nn.spectral_normalisation import SpectralNorm

IMAGE = (4, 3, 8, 8)
MAKE = {
    "BatchRenorm1d": (lambda: fastgan.nn.BatchRenorm1d(5), (4, 5)),
    "BatchRenorm2d": (lambda: fastgan.nn.BatchRenorm2d(3), IMAGE),
    "BiasAct": (lambda: fastgan.nn.BiasAct(3), IMAGE),
    "Blur": (fastgan.nn.Blur, IMAGE),
    "ConditionalBatchNorm2d": (lambda: fastgan.nn.ConditionalBatchNorm2d(3, num_classes=2), IMAGE, "labels"),
    "Downsample": (fastgan.nn.Downsample, IMAGE),
    "EqualizedConv2d": (lambda: fastgan.nn.EqualizedConv2d(3, 4, 3), IMAGE),
    "EqualizedLinear": (lambda: fastgan.nn.EqualizedLinear(5, 4), (4, 5)),
    "InstanceNoise": (fastgan.nn.InstanceNoise, IMAGE),
    "LogitAndFeatures": (lambda: fastgan.nn.LogitAndFeatures(critic(), "1"), IMAGE),
    "MappingNetwork": (lambda: fastgan.nn.MappingNetwork(5, 6, 2), (4, 5)),
    "MinibatchDiscrimination": (lambda: fastgan.nn.MinibatchDiscrimination(5, 3, 2), (4, 5)),
    "MinibatchStdDev": (fastgan.nn.MinibatchStdDev, IMAGE),
    "ModulatedConv2d": (lambda: fastgan.nn.ModulatedConv2d(3, 4, 3, 6), IMAGE, (4, 6)),
    "NoiseInjection": (lambda: fastgan.nn.NoiseInjection((8, 8)), IMAGE),
    "PackedCritic": (lambda: fastgan.nn.PackedCritic(critic(6), 2), IMAGE),
    "ReconstructionError": (lambda: fastgan.nn.ReconstructionError(nn.Conv2d(3, 3, 1)), IMAGE),
    "SpectralNorm": (lambda: spectral_norm_(critic()), IMAGE),
    "SplitBatchNorm2d": (lambda: fastgan.nn.SplitBatchNorm2d(3), IMAGE),
    "StyledConv": (lambda: fastgan.nn.StyledConv(3, 4, 6, (8, 8)), IMAGE, (4, 6)),
    "ToRGB": (lambda: fastgan.nn.ToRGB(3, 3, 6), IMAGE, (4, 6)),
    "Upsample": (fastgan.nn.Upsample, IMAGE),
    "VirtualBatchNorm": (lambda: fastgan.nn.VirtualBatchNorm(3), IMAGE),
}  # fmt: skip


def critic(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))


def test_every_module_is_listed():
    modules = {
        name
        for name in fastgan.nn.__all__
        if inspect.isclass(getattr(fastgan.nn, name)) and issubclass(getattr(fastgan.nn, name), nn.Module)
    }
    assert set(MAKE) == modules


def inputs_of(shapes, generator):
    x = [
        torch.arange(4) % 2 if shape == "labels" else torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    ]
    x[0].requires_grad_()
    return x


@pytest.mark.parametrize("name", MAKE)
def test_a_copy_after_a_forward_pass(name, generator):
    make, *shapes = MAKE[name]
    module = make().double()
    x = inputs_of(shapes, generator)
    if name == "VirtualBatchNorm":
        with reference_batch(module, x[0]):
            module(x[0])
            check(module, x, name)
    y = module(*x)
    check(module, x, name)
    (y[0] if isinstance(y, tuple) else y).sum().backward()


def check(module, x, name):
    twin = copy.deepcopy(module)
    for each in twin.modules():
        assert all(not isinstance(v, torch.Tensor) for v in vars(each).values())
    if not any(isinstance(each, SpectralNorm) for each in module.modules()):  # PyTorch pickles no parametrizations
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    torch.manual_seed(0)
    expected = module(*x)
    torch.manual_seed(0)
    torch.testing.assert_close(twin(*x), expected)
