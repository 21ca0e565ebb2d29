"""Converts state dicts between fastgan's StyleGAN2 and NVIDIA's (stylegan2-ada-pytorch, stylegan3)."""

from torch import Tensor

from fastgan.integrations.stylegan.naming import NamePair, Naming, State, check_state, numbers, some
from fastgan.integrations.stylegan.our_state import (
    critic_levels,
    generator_arguments,
    generator_sizes,
    group_size,
    is_generator,
)

LAYER = ("weight", "bias")
STYLED = ("weight", "bias", "noise_strength", "noise_const", "affine.weight", "affine.bias")
TO_RGB = ("weight", "bias", "affine.weight", "affine.bias")


def from_nvidia(state_dict: State) -> dict[str, Tensor]:
    """The state dict of NVIDIA's Generator or Discriminator as one of `StyleGAN2Generator` or `StyleGAN2Critic`.

    The default architectures, without labels: a skip generator and a residual discriminator. Values are not changed.

    Args:
        state_dict: theirs; the resampling filters may be missing.

    Raises:
        TypeError: it is not a mapping of names to tensors.
        ValueError: it is of a conditional network or of another architecture; the message says which names tell so.
    """
    check_state("from_nvidia: state_dict", state_dict)
    labels = [name for name in state_dict if name.startswith("mapping.embed.")]
    if labels or ("b4.out.weight" in state_dict and any(name.startswith("mapping.") for name in state_dict)):
        names = some(labels or [name for name in state_dict if name.startswith("mapping.")])
        raise ValueError(f"from_nvidia: the network is conditional, it has {names}; expected one without labels")
    if "synthesis.b4.const" in state_dict:
        levels = len(numbers(state_dict, r"synthesis\.b(\d+)\.conv1\.weight"))
        return generator_naming(levels, len(numbers(state_dict, r"mapping\.fc(\d+)\.weight"))).to_ours(state_dict)
    if "b4.out.weight" in state_dict:
        moved = critic_naming(len(numbers(state_dict, r"b(\d+)\.conv0\.weight")) + 1).to_ours(state_dict)
        group_size(moved)
        return moved
    raise ValueError(
        f"from_nvidia: state_dict has the names {some(state_dict)}; expected synthesis.b4.const of a StyleGAN2 "
        "generator or b4.out.weight of a discriminator"
    )


def to_nvidia(state_dict: State) -> dict[str, Tensor]:
    """The state dict of `StyleGAN2Generator` or `StyleGAN2Critic` as one of NVIDIA's networks: `from_nvidia` backwards.

    Raises:
        TypeError: it is not a mapping of names to tensors.
        ValueError: it is not one of ours, or their networks cannot have it: images that are not square, or a critic
            without the standard deviation over the batch.
    """
    if is_generator(state_dict):
        check_square("to_nvidia", state_dict)
        return generator_naming(*generator_sizes(state_dict)).to_theirs(state_dict)
    check_statistic("to_nvidia", state_dict)
    return critic_naming(critic_levels(state_dict)).to_theirs(state_dict)


def check_square(function: str, state: State) -> None:
    """Raises ValueError for a generator of ours that the others' code cannot express."""
    resolution = generator_arguments(state)["resolution"]
    if not isinstance(resolution, int):
        raise ValueError(f"{function}: the images are {resolution[0]}x{resolution[1]}, expected square ones")


def check_statistic(function: str, state: State) -> None:
    """Raises ValueError for a critic of ours that the others' code cannot express."""
    if not group_size(state):
        raise ValueError(f"{function}: the critic has no minibatch standard deviation, expected group_size > 0")


def generator_naming(levels: int, mapping_layers: int) -> Naming:
    """A generator with so many resolutions and layers of the mapping network."""
    pairs = [NamePair("mapping.w_avg", "mapping.w_avg"), NamePair("synthesis.b4.const", "synthesis.const")]
    for i in range(mapping_layers):
        pairs += [NamePair(f"mapping.fc{i}.{name}", f"mapping.layers.{i}.{name}") for name in LAYER]
    filters, our_filters = [], ["synthesis.resample_filter"]
    for level in range(levels):
        theirs, ours = f"synthesis.b{4 << level}", f"synthesis.blocks.{level}"
        filters += [f"{theirs}.resample_filter", f"{theirs}.conv1.resample_filter"]
        if level > 0:
            pairs += [NamePair(f"{theirs}.conv0.{name}", f"{ours}.up.{name}") for name in STYLED]
            filters.append(f"{theirs}.conv0.resample_filter")
            our_filters.append(f"{ours}.up.resample_filter")
        pairs += [NamePair(f"{theirs}.conv1.{name}", f"{ours}.conv.{name}") for name in STYLED]
        pairs += [NamePair(f"{theirs}.torgb.{name}", f"{ours}.to_rgb.{name}") for name in TO_RGB]
    return Naming("NVIDIA's generator", tuple(pairs), dict.fromkeys(filters, 1.0), tuple(our_filters))


def critic_naming(levels: int) -> Naming:
    """A critic with so many resolutions."""
    top = f"b{4 << levels - 1}"
    pairs = [NamePair(f"{top}.fromrgb.{name}", f"from_rgb.{name}") for name in LAYER]
    filters, our_filters = [f"{top}.fromrgb.resample_filter", "b4.conv.resample_filter"], []
    for block in range(levels - 1):
        theirs, ours = f"b{4 << levels - 1 - block}", f"blocks.{block}"
        for layer in ("conv0", "conv1"):
            pairs += [NamePair(f"{theirs}.{layer}.{name}", f"{ours}.{layer}.{name}") for name in LAYER]
        pairs.append(NamePair(f"{theirs}.skip.weight", f"{ours}.skip.weight"))
        filters += [f"{theirs}{layer}.resample_filter" for layer in ("", ".conv0", ".conv1", ".skip")]
        our_filters += [f"{ours}.conv1.resample_filter", f"{ours}.skip.resample_filter"]
    for layer in ("conv", "fc", "out"):
        pairs += [NamePair(f"b4.{layer}.{name}", f"{layer}.{name}") for name in LAYER]
    return Naming("NVIDIA's discriminator", tuple(pairs), dict.fromkeys(filters, 1.0), tuple(our_filters))
