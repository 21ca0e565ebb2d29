"""What the later stages go over, and what the machine is and can do: `names` starts no CUDA context, `ceiling` does."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import ceiling, environment
from benchmarks.gpu import rows
from benchmarks.penalties.critics import CRITICS
from benchmarks.spectral_norm import NETWORKS
from fastgan.registry import OPS


def find(name: str, device: torch.device) -> Iterator[dict[str, Any]]:
    if name == "names":
        on_device = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}[device.type]
        for spec in OPS.values():
            yield {"op": spec.name, "backends": [backend for backend in spec.backends if backend in on_device]}
        yield from ({"critic": critic} for critic in CRITICS)
        yield from ({"network": network} for network in NETWORKS)
    if name == "ceiling":
        yield {"environment": environment.collect(device)}
        yield {"ceiling": dataclasses.asdict(ceiling.measure(device))}


if __name__ == "__main__":
    raise SystemExit(rows.main(find))
