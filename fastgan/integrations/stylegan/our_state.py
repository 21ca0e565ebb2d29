"""Builds fastgan's StyleGAN2 networks from a state dict, whose shapes tell most constructor arguments."""

from typing import Any

import torch

from fastgan.integrations.stylegan.naming import State, check_state, numbers, some
from fastgan.models.stylegan2 import StyleGAN2Critic, StyleGAN2Generator
from fastgan.nn import MinibatchStdDev
from fastgan.ops.minibatch_stddev import check_sizes


def is_generator(state: State) -> bool:
    """Whether it is the generator's; otherwise it is the critic's.

    Raises:
        TypeError, ValueError: it is neither's.
    """
    check_state("state_dict", state)
    if "synthesis.const" in state:
        return True
    if "from_rgb.weight" in state:
        return False
    raise ValueError(
        f"state_dict has the names {some(state)}; expected those of StyleGAN2Generator or StyleGAN2Critic "
        "(from_nvidia and from_rosinality return such)"
    )


def generator_sizes(state: State) -> tuple[int, int]:
    """Numbers of resolutions and of mapping layers."""
    levels = numbers(state, r"synthesis\.blocks\.(\d+)\.conv\.weight")
    return len(levels), len(numbers(state, r"mapping\.layers\.(\d+)\.weight"))


def critic_levels(state: State) -> int:
    """Number of resolutions."""
    return len(numbers(state, r"blocks\.(\d+)\.conv0\.weight")) + 1


def generator_arguments(state: State) -> dict[str, Any]:
    """The arguments of `StyleGAN2Generator` that fit a state dict.

    Raises:
        ValueError: its numbers of channels are not of the form min(width / resolution, max_width).
    """
    levels, mapping_layers = generator_sizes(state)
    height, width = _shape(state, "synthesis.const")[1:]
    smaller = min(height, width)
    channels = {smaller << level: _shape(state, f"synthesis.blocks.{level}.conv.weight")[0] for level in range(levels)}
    w_dim, z_dim = _shape(state, "mapping.layers.0.weight")
    size = (height << levels - 1, width << levels - 1)
    return {
        "resolution": size[0] if size[0] == size[1] else size,
        "channels": _shape(state, "synthesis.blocks.0.to_rgb.weight")[0],
        "z_dim": z_dim,
        "w_dim": w_dim,
        "mapping_layers": mapping_layers,
        **_widths(channels),
    }


def critic_arguments(state: State) -> dict[str, Any]:
    """The arguments of `StyleGAN2Critic` that fit a state dict of square images.

    Raises:
        ValueError: its numbers of channels are not of the form min(width / resolution, max_width), its smallest image
            is not 4x4, or it sees more than one statistic of the batch.
    """
    levels = critic_levels(state)
    last = _shape(state, "conv.weight")[0]
    inputs = _shape(state, "fc.weight")[1]
    if inputs != 16 * last:
        raise ValueError(f"fc.weight has {inputs} inputs, expected {16 * last}: {last} channels of 4x4 pixels")
    channels = {
        4 << levels - 1 - block: _shape(state, f"blocks.{block}.conv0.weight")[0] for block in range(levels - 1)
    }
    return {
        "resolution": 4 << levels - 1,
        "channels": _shape(state, "from_rgb.weight")[1],
        "group_size": group_size(state),
        **_widths({**channels, 4: last}),
    }


def group_size(state: State) -> int:
    """The group size 4 (no tensor tells another), or 0 for a critic without the minibatch standard deviation.

    Raises:
        ValueError: it sees more than one.
    """
    last, seen = _shape(state, "conv.weight")[:2]
    if seen not in (last, last + 1):
        raise ValueError(
            f"conv.weight has {seen} input channels, expected {last} and at most one statistic of the batch"
        )
    return 4 if seen > last else 0


def _shape(state: State, name: str) -> torch.Size:
    if name not in state:
        raise ValueError(f"state_dict has no {name}, which tells the network's architecture")
    return state[name].shape


def _widths(channels: dict[int, int]) -> dict[str, int]:
    """width and max_width from the channels at each resolution."""
    most = max(channels.values())
    low, high = 1, 1 << 40
    for size, count in channels.items():
        low = max(low, size * count if count > 1 else 1)
        high = min(high, size * count + size - 1 if count < most else high)
    if low > high:
        table = ", ".join(f"{count} at {size}" for size, count in sorted(channels.items()))
        raise ValueError(
            f"the numbers of channels are {table}; expected min(width / resolution, max_width) for one width: "
            "construct and load such a network by hand"
        )
    return {"width": low, "max_width": most}


def build_generator(
    state_dict: State, clamp: float | None = None, w_avg_decay: float | None = None
) -> StyleGAN2Generator:
    """A generator with the weights and the architecture of a state dict of ours, in evaluation mode.

        record = read_pickle("network.pkl")["G_ema"]
        generator = build_generator(from_nvidia(record.state_dict), **nvidia_settings(record))

    Args:
        state_dict: as `from_nvidia`, `from_rosinality` and `StyleGAN2Generator.state_dict` return it.
        clamp: bound of the activations, which no state dict tells: NVIDIA's `conv_clamp`. Theirs are not the numbers of
            a network with another one.
        w_avg_decay: of the mapping network's average w while it trains on: NVIDIA's `w_avg_beta`; None for ours.

    Raises:
        TypeError, ValueError: it is not a state dict of a generator, or of one that `StyleGAN2Generator` can be.
    """
    if not is_generator(state_dict):
        raise ValueError("build_generator: state_dict is a critic's, expected a generator's")
    if w_avg_decay is not None and not 0 <= w_avg_decay <= 1:
        raise ValueError(f"build_generator: w_avg_decay is {w_avg_decay}, expected a number from 0 to 1")
    generator = StyleGAN2Generator(**generator_arguments(state_dict), clamp=clamp)
    if w_avg_decay is not None:
        generator.mapping.w_avg_decay = w_avg_decay
    _load(generator, state_dict)
    return generator.eval()


def build_critic(state_dict: State, clamp: float | None = None, group_size: int | None = 4) -> StyleGAN2Critic:
    """A critic with the weights and the architecture of a state dict of ours, of square images, in training mode.

    Args:
        state_dict: as `from_nvidia`, `from_rosinality` and `StyleGAN2Critic.state_dict` return it.
        clamp: as in `build_generator`.
        group_size: samples whose standard deviation the critic sees, as in `MinibatchStdDev` (None: the whole batch),
            which no state dict tells either. A state dict of a critic that sees none stays one.

    Raises:
        TypeError, ValueError: it is not a state dict of a critic, or of one that `StyleGAN2Critic` can be.
    """
    if is_generator(state_dict):
        raise ValueError("build_critic: state_dict is a generator's, expected a critic's")
    check_sizes("build_critic", group_size, 1)
    critic = StyleGAN2Critic(**critic_arguments(state_dict), clamp=clamp)
    if critic.minibatch_stddev is not None:
        critic.minibatch_stddev = MinibatchStdDev(group_size)
    _load(critic, state_dict)
    return critic


def _load(network: torch.nn.Module, state: State) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"state_dict does not fit {type(network).__name__}: {error}") from None
