"""Converts state dicts between fastgan's StyleGAN2 and rosinality's stylegan2-pytorch."""

import torch
from torch import Tensor

from fastgan.integrations.stylegan.naming import NamePair, Naming, State, check_state, numbers, some
from fastgan.integrations.stylegan.nvidia_names import LAYER, check_square, check_statistic
from fastgan.integrations.stylegan.our_state import critic_levels, generator_sizes, group_size, is_generator


def from_rosinality(state_dict: State, latent_avg: Tensor | None = None) -> dict[str, Tensor]:
    """The state dict of rosinality's Generator or Discriminator as one of `StyleGAN2Generator` or `StyleGAN2Critic`.

        checkpoint = read_pickle("stylegan2-ffhq-config-f.pt")
        state = from_rosinality(checkpoint["g_ema"], checkpoint.get("latent_avg"))

    Values are not changed, so training goes on with the same learning rates. Their demodulation adds its epsilon of
    1e-8 to the squared norm of the filters times the equalised learning rate's constant, ours to that of the filters
    without it: a layer's results differ by about 5e-9 of their size, less than float32 rounds.

    Args:
        state_dict: theirs; the kernels of blurs and upsamplings may be missing.
        latent_avg: the mean w [w_dim] for truncation, a generator's only; zeros if it is not given.

    Raises:
        TypeError: it is not a mapping of names to tensors.
        ValueError: it is of another architecture; the message says which names tell so.
    """
    check_state("from_rosinality: state_dict", state_dict)
    if "input.input" in state_dict:
        levels = len(numbers(state_dict, r"to_rgbs\.(\d+)\.conv\.weight")) + 1
        naming = generator_naming(levels, len(numbers(state_dict, r"style\.(\d+)\.weight")))
        moved = naming.to_ours(state_dict)
        return {**moved, "mapping.w_avg": _mean_w(moved, latent_avg)}
    if "final_linear.1.weight" not in state_dict:
        raise ValueError(
            f"from_rosinality: state_dict has the names {some(state_dict)}; expected input.input of a generator or "
            "final_linear.1.weight of a discriminator"
        )
    if latent_avg is not None:
        raise ValueError("from_rosinality: latent_avg is given with a discriminator's state dict, expected None")
    moved = critic_naming(len(numbers(state_dict, r"convs\.(\d+)\.conv1\.0\.weight")) + 1).to_ours(state_dict)
    group_size(moved)
    return moved


def _mean_w(moved: State, latent_avg: Tensor | None) -> Tensor:
    w = moved["mapping.layers.0.bias"]
    if latent_avg is None:
        return torch.zeros_like(w)
    if latent_avg.numel() != w.numel():
        raise ValueError(f"from_rosinality: latent_avg has shape {list(latent_avg.shape)}, expected {list(w.shape)}")
    return latent_avg.reshape(w.shape)


def to_rosinality(state_dict: State) -> dict[str, Tensor]:
    """The state dict of `StyleGAN2Generator` or `StyleGAN2Critic` as one of rosinality's networks.

    Their generator has no mean w: it is left out (`mapping.w_avg` is what their checkpoints call latent_avg).

    Raises:
        TypeError: it is not a mapping of names to tensors.
        ValueError: it is not one of ours, or their networks cannot have it: images that are not square, a z of another
            size than w, other than three channels, or a critic without the standard deviation over the batch.
    """
    if not is_generator(state_dict):
        check_statistic("to_rosinality", state_dict)
        _check_rgb(state_dict["from_rgb.weight"].shape[1])
        return critic_naming(critic_levels(state_dict)).to_theirs(state_dict)
    check_square("to_rosinality", state_dict)
    w_dim, z_dim = state_dict["mapping.layers.0.weight"].shape
    if z_dim != w_dim:
        raise ValueError(f"to_rosinality: z has {z_dim} numbers and w {w_dim}, expected as many")
    _check_rgb(state_dict["synthesis.blocks.0.to_rgb.weight"].shape[0])
    rest = {name: value for name, value in state_dict.items() if name != "mapping.w_avg"}
    return generator_naming(*generator_sizes(state_dict)).to_theirs(rest)


def _check_rgb(channels: int) -> None:
    if channels != 3:
        raise ValueError(f"to_rosinality: the images have {channels} channels, expected 3")


def generator_naming(levels: int, mapping_layers: int) -> Naming:
    """A generator with so many resolutions and layers of the mapping network."""
    pairs = [NamePair("input.input", "synthesis.const", before=1)]
    for i in range(mapping_layers):
        pairs += [NamePair(f"style.{i + 1}.{name}", f"mapping.layers.{i}.{name}") for name in LAYER]
    pairs += _styled("conv1", "noises.noise_0", "synthesis.blocks.0.conv")
    pairs += _to_rgb("to_rgb1", "synthesis.blocks.0.to_rgb")
    filters, our_filters = [], ["synthesis.resample_filter"]
    for level in range(1, levels):
        first, ours = 2 * level - 2, f"synthesis.blocks.{level}"
        pairs += _styled(f"convs.{first}", f"noises.noise_{first + 1}", f"{ours}.up")
        pairs += _styled(f"convs.{first + 1}", f"noises.noise_{first + 2}", f"{ours}.conv")
        pairs += _to_rgb(f"to_rgbs.{level - 1}", f"{ours}.to_rgb")
        filters += [f"convs.{first}.conv.blur.kernel", f"to_rgbs.{level - 1}.upsample.kernel"]
        our_filters.append(f"{ours}.up.resample_filter")
    # Where zeros were inserted three of four pixels are missing: their kernels make up for it.
    return Naming("rosinality's generator", tuple(pairs), dict.fromkeys(filters, 4.0), tuple(our_filters))


def _styled(theirs: str, noise: str, ours: str) -> list[NamePair]:
    return [
        NamePair(f"{theirs}.conv.weight", f"{ours}.weight", before=1),
        *_affine(theirs, ours),
        NamePair(f"{theirs}.noise.weight", f"{ours}.noise_strength", before=1),
        NamePair(noise, f"{ours}.noise_const", before=2),
        NamePair(f"{theirs}.activate.bias", f"{ours}.bias"),
    ]


def _to_rgb(theirs: str, ours: str) -> list[NamePair]:
    return [
        NamePair(f"{theirs}.conv.weight", f"{ours}.weight", before=1),
        *_affine(theirs, ours),
        NamePair(f"{theirs}.bias", f"{ours}.bias", before=1, behind=2),
    ]


def _affine(theirs: str, ours: str) -> list[NamePair]:
    return [NamePair(f"{theirs}.conv.modulation.{name}", f"{ours}.affine.{name}") for name in LAYER]


def critic_naming(levels: int) -> Naming:
    """A critic with so many resolutions."""
    pairs = [NamePair("convs.0.0.weight", "from_rgb.weight"), NamePair("convs.0.1.bias", "from_rgb.bias")]
    filters, our_filters = [], []
    for block in range(levels - 1):
        theirs, ours = f"convs.{block + 1}", f"blocks.{block}"
        pairs += [
            NamePair(f"{theirs}.conv1.0.weight", f"{ours}.conv0.weight"),
            NamePair(f"{theirs}.conv1.1.bias", f"{ours}.conv0.bias"),
            NamePair(f"{theirs}.conv2.1.weight", f"{ours}.conv1.weight"),
            NamePair(f"{theirs}.conv2.2.bias", f"{ours}.conv1.bias"),
            NamePair(f"{theirs}.skip.1.weight", f"{ours}.skip.weight"),
        ]
        filters += [f"{theirs}.conv2.0.kernel", f"{theirs}.skip.0.kernel"]
        our_filters += [f"{ours}.conv1.resample_filter", f"{ours}.skip.resample_filter"]
    pairs += [NamePair("final_conv.0.weight", "conv.weight"), NamePair("final_conv.1.bias", "conv.bias")]
    for i, layer in enumerate(("fc", "out")):
        pairs += [NamePair(f"final_linear.{i}.{name}", f"{layer}.{name}") for name in LAYER]
    return Naming("rosinality's discriminator", tuple(pairs), dict.fromkeys(filters, 1.0), tuple(our_filters))
