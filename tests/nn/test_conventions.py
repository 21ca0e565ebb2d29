"""What torch.nn's layers can do, every module of `fastgan.nn` can: devices and dtypes, resets, copies, checkpoints."""

import copy
import inspect
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import fastgan.nn
from fastgan.nn import SpectralNorm, reference_batch, set_reference_batch, spectral_norm_

IMAGE = (4, 3, 8, 8)


class Layer(NamedTuple):
    """How to build a module, and the shapes of its inputs; `labels` are 4 class numbers."""

    build: Callable[..., nn.Module]  # takes device and dtype, where the module owns any tensor
    inputs: tuple[Any, ...]


def critic(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))


def layer(name: str, *args: Any, inputs: tuple[Any, ...] = (IMAGE,), **options: Any) -> Layer:
    kind = getattr(fastgan.nn, name)
    return Layer(lambda **factory: kind(*args, **options, **factory), inputs)


LAYERS = {
    "BatchRenorm1d": layer("BatchRenorm1d", 5, inputs=((4, 5),)),
    "BatchRenorm2d": layer("BatchRenorm2d", 3),
    "BiasAct": layer("BiasAct", 3),
    "Blur": layer("Blur"),
    "ConditionalBatchNorm2d": layer("ConditionalBatchNorm2d", 3, num_classes=2, inputs=(IMAGE, "labels")),
    "ConditionalBatchNorm2d of vectors": layer("ConditionalBatchNorm2d", 3, embedding_dim=6, inputs=(IMAGE, (4, 6))),
    "Downsample": layer("Downsample"),
    "EqualizedConv2d": layer("EqualizedConv2d", 3, 4, 3),
    "EqualizedConv2d down": layer("EqualizedConv2d", 3, 4, 3, down=2, act="lrelu"),
    "EqualizedLinear": layer("EqualizedLinear", 5, 4, bias_init=0.3, lr_multiplier=0.1, inputs=((4, 5),)),
    "InstanceNoise": layer("InstanceNoise"),
    "LogitAndFeatures": Layer(lambda: fastgan.nn.LogitAndFeatures(critic(), "1"), (IMAGE,)),
    "MappingNetwork": layer("MappingNetwork", 5, 6, 2, inputs=((4, 5),)),
    "MinibatchDiscrimination": layer("MinibatchDiscrimination", 5, 3, 2, inputs=((4, 5),)),
    "MinibatchStdDev": layer("MinibatchStdDev"),
    "ModulatedConv2d": layer("ModulatedConv2d", 3, 4, 3, 6, inputs=(IMAGE, (4, 6))),
    "ModulatedConv2d up": layer("ModulatedConv2d", 3, 4, 3, 6, up=2, inputs=(IMAGE, (4, 6))),
    "NoiseInjection": layer("NoiseInjection", (8, 8)),
    "PackedCritic": Layer(lambda: fastgan.nn.PackedCritic(critic(6), 2), (IMAGE,)),
    "ReconstructionError": Layer(lambda: fastgan.nn.ReconstructionError(nn.Conv2d(3, 3, 1)), (IMAGE,)),
    "SelfAttention2d": layer("SelfAttention2d", 8, inputs=((4, 8, 8, 8),)),
    "SpectralNorm": Layer(lambda: spectral_norm_(critic()), (IMAGE,)),
    "SplitBatchNorm2d": layer("SplitBatchNorm2d", 3),
    "StyledConv": layer("StyledConv", 3, 4, 6, (8, 8), inputs=(IMAGE, (4, 6))),
    "ToRGB": layer("ToRGB", 3, 3, 6, inputs=(IMAGE, (4, 6))),
    "Upsample": layer("Upsample"),
    "VirtualBatchNorm": layer("VirtualBatchNorm", 3),
}

# They own no tensor, or (SpectralNorm) one that is like the weight that it is given.
WITHOUT_FACTORY = {"LogitAndFeatures", "MinibatchStdDev", "PackedCritic", "ReconstructionError", "SpectralNorm"}
# Their one tensor is a filter, which is float32.
WITHOUT_DTYPE = {"Blur", "Downsample", "Upsample"}
OWNERS = [name for name in LAYERS if name not in WITHOUT_FACTORY]
FILTERS = ("filter", "resample_filter")


def class_of(name: str) -> type[nn.Module]:
    return getattr(fastgan.nn, name.split()[0])


def built(name: str, seed: int = 0, **factory: Any) -> nn.Module:
    """The module with the parameters of this seed."""
    torch.manual_seed(seed)
    return LAYERS[name].build(**factory)


def inputs_of(name: str, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [
        (torch.arange(4) % 2 if shape == "labels" else torch.randn(shape, generator=random, dtype=dtype)).to(device)
        for shape in LAYERS[name].inputs
    ]


def run(module: nn.Module, x: list[Tensor]) -> Tensor:
    """The output, with the same random numbers each time."""
    if isinstance(module, fastgan.nn.VirtualBatchNorm):
        set_reference_batch(module, x[0])
    torch.manual_seed(2)
    return module(*x)


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_every_module_is_listed():
    public = [getattr(fastgan.nn, name) for name in fastgan.nn.__all__]
    assert {class_of(name) for name in LAYERS} == {
        kind for kind in public if inspect.isclass(kind) and issubclass(kind, nn.Module)
    }


@pytest.mark.parametrize("name", LAYERS)
def test_who_owns_a_tensor_takes_a_device_and_a_dtype(name):
    parameters = inspect.signature(class_of(name).__init__).parameters
    expected = [] if name in WITHOUT_FACTORY else ["device"] if name in WITHOUT_DTYPE else ["device", "dtype"]
    assert [parameter for parameter in parameters if parameter in ("device", "dtype")] == expected
    assert list(parameters)[len(parameters) - len(expected) :] == expected
    assert all(parameters[parameter].default is None for parameter in expected)
    if name in WITHOUT_FACTORY - {"SpectralNorm"}:
        module = built(name)
        assert not [*module.parameters(recurse=False), *module.buffers(recurse=False)]


@pytest.mark.parametrize("name", [name for name in OWNERS if name not in WITHOUT_DTYPE])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_dtype_is_that_of_every_floating_point_tensor_but_filters(name, dtype):
    for key, value in built(name, dtype=dtype).state_dict().items():
        if value.is_floating_point():
            assert value.dtype == (torch.float32 if key in FILTERS else dtype), key


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("by", ["argument", "context"])
def test_on_the_meta_device_a_module_has_no_memory_and_runs(name, by):
    with torch.device("meta" if by == "context" else "cpu"):
        module = built(name) if by == "context" else built(name, device="meta")
    assert all(value.is_meta for value in module.state_dict().values())
    expected = run(built(name), inputs_of(name, torch.float32))
    assert run(module, inputs_of(name, torch.float32, "meta")).shape == expected.shape


@pytest.mark.parametrize("name", OWNERS)
def test_to_empty_and_reset_parameters_make_of_a_meta_module_what_its_constructor_makes(name):
    module = built(name, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for value in module.state_dict().values():
            value.fill_(torch.nan if value.is_floating_point() else 99)
    torch.manual_seed(3)
    module.reset_parameters()
    assert_same_state(module, built(name, seed=3))
    dtype = torch.float32
    torch.testing.assert_close(run(module, inputs_of(name, dtype)), run(built(name, 3), inputs_of(name, dtype)))


@pytest.mark.parametrize("name", OWNERS)
def test_reset_parameters_after_training(name):
    module = built(name).double()
    x = inputs_of(name, torch.float64)
    x[0].requires_grad_()
    run(module, x).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    module.float()
    torch.manual_seed(3)
    module.reset_parameters()
    assert_same_state(module, built(name, seed=3))


def test_a_spectral_norm_s_vectors_are_reset():
    module = built("SpectralNorm")
    for norm in (each for each in module.modules() if isinstance(each, SpectralNorm)):
        norm._u.fill_(torch.nan)
        norm._v.fill_(torch.nan)
        norm.reset_parameters()
        torch.testing.assert_close(torch.stack([norm._u.norm(), norm._v.norm()]), torch.ones(2))


@pytest.mark.parametrize("name", LAYERS)
def test_a_state_dict_is_taken_by_another_module_strictly(name):
    x = inputs_of(name, torch.float32)
    module, other = built(name), built(name, seed=9)
    run(module, x)  # buffers move
    other.load_state_dict(module.state_dict(), strict=True)
    assert_same_state(other, module)
    torch.testing.assert_close(run(other.eval(), x), run(module.eval(), x), rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "SpectralNorm"])
def test_repr_says_how_it_was_built(name):
    """torch's own spectral norm, whose place SpectralNorm takes, says nothing."""
    assert built(name).extra_repr()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_under_autocast(name, training):
    """Runs, with numbers near those of float32."""
    module = built(name).train(training)
    if name == "VirtualBatchNorm":
        set_reference_batch(module, *inputs_of(name, torch.float32))
    x = inputs_of(name, torch.float32)
    states = [copy.deepcopy(module.state_dict()) for _ in range(2)]
    outputs = []
    for state, enabled in zip(states, (False, True), strict=True):
        module.load_state_dict(state)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs.append(module(*x))
    outputs[1].float().sum().backward() if outputs[1].requires_grad else None
    scale = outputs[0].abs().max().item()
    torch.testing.assert_close(outputs[1].float(), outputs[0], rtol=0, atol=0.05 * max(scale, 1))


@pytest.mark.parametrize("name", LAYERS)
def test_a_copy_before_and_after_a_forward_pass(name):
    """What a module keeps of a call holds no graph, which could not be copied."""
    module = built(name).double()
    x = inputs_of(name, torch.float64)
    x[0].requires_grad_()
    if name == "VirtualBatchNorm":
        with reference_batch(module, x[0]):
            module(x[0])
            assert_copies(module, x)
    else:
        assert_copies(module, x)
    y = module(*x)
    assert_copies(module, x)
    y.sum().backward()


def assert_copies(module: nn.Module, x: list[Tensor]) -> None:
    twins = [copy.deepcopy(module)]
    if not any(isinstance(each, SpectralNorm) for each in module.modules()):  # PyTorch pickles no parametrizations
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        twins.append(torch.load(file, weights_only=False))
    for twin in twins:
        for each in twin.modules():
            assert all(not isinstance(value, Tensor) for value in vars(each).values())
    torch.manual_seed(0)
    expected = module(*x)
    for twin in twins:
        torch.manual_seed(0)
        torch.testing.assert_close(twin(*x), expected)
