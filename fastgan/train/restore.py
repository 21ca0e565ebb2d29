"""A network of a run as it was at a checkpoint, for use without training."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from fastgan.errors import UserError, one_line
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.config import TrainConfig
from fastgan.train.devices import choose_device
from fastgan.train.state import below


class Restored(NamedTuple):
    """What a checkpoint holds of one network.

    Attributes:
        network: in evaluation mode, without gradients, on its device.
        config: the settings of the run.
        step: steps that it was trained for.
        classes: how many images each class of the data has; empty for a run without classes.
        digest: of the files of its data (`Images.digest`); empty where there are none, or nobody has looked.
    """

    network: nn.Module
    config: TrainConfig
    step: int
    classes: dict[str, int]
    digest: str


def restore(
    path: str | Path, device: str, part: str, build: Callable[[TrainConfig, int, dict[str, Tensor]], nn.Module]
) -> Restored:
    """Builds a network and gives it its tensors.

    Args:
        path: a checkpoint, or a run's folder for its newest one.
        device: cpu, cuda, cuda:N, or auto for a GPU if there is one.
        part: of the checkpoint: `average`, `critic`.
        build: makes it of the run's settings, the number of classes and its tensors by name.

    Raises:
        UserError: there is no checkpoint, it is damaged or of another version, or there is no such device.
    """
    place = choose_device(device)
    file = find_checkpoint(path, "CHECKPOINT")
    tensors, header = read_checkpoint(file)
    try:
        config = TrainConfig(**header["config"])
        classes: dict[str, int] = header.get("classes", {})
        own = below(tensors, part)
        network = build(config, len(classes), own)
        network.load_state_dict(own)
    except (KeyError, TypeError, RuntimeError, UserError) as error:
        raise UserError(f"{file} does not fit this version of fastgan: {one_line(error)}") from error
    ready = network.to(place).eval().requires_grad_(False)
    return Restored(ready, config, header["step"], classes, header.get("digest", ""))
