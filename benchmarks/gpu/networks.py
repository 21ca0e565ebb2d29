"""The spectrally normalised weights of one network, checked and timed; or "styled_conv2d", StyleGAN2's layer."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import spectral_norm, styled_conv2d
from benchmarks.gpu import rows

BUDGET_S = 1.0


def find(name: str, device: torch.device) -> Iterator[dict[str, Any]]:
    if name == "styled_conv2d":
        for layer in styled_conv2d.LAYERS[device.type]:
            yield styled_conv2d.measure_layer(layer, device, torch.bfloat16, BUDGET_S)
    else:
        yield spectral_norm.measure_network(name, device, BUDGET_S)


if __name__ == "__main__":
    raise SystemExit(rows.main(find))
