"""Times the spectrally normalised weights of whole networks: fastgan's group beside torch's two spectral norms.

    python -m benchmarks.spectral_norm [--device cuda] [--json [PATH]]

The networks consist of weights alone: forward computes all normalised weights, backward the gradients of the
parameters. "Layer by layer" computes each weight with a call of its own, outside of the network's forward pass.
Results are checked against float64 before anything is timed; all run in this process, in alternation.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as hook_norm

import fastgan
from benchmarks import environment, measure
from benchmarks.comparisons import Comparison, add_json_option
from fastgan.nn import spectral_norm_
from fastgan.ops.spectral_norm.spec import BIGGAN_128, DCGAN_SN, SNGAN_32

if TYPE_CHECKING:  # imported where they are used: `make gpu` measures without rich
    from rich.console import Console

SUITE = "spectral_norm"
NETWORKS = {"SNGAN-32": SNGAN_32, "DCGAN-SN": DCGAN_SN, "BigGAN-128": BIGGAN_128}
STAGES = ("forward", "layer by layer", "forward+backward")
TARGETS = {"cpu": {"SNGAN-32": 4.0, "DCGAN-SN": 3.0, "BigGAN-128": 1.6}, "cuda": {"SNGAN-32": 8.0, "BigGAN-128": 5.0}}
"""fastgan over the better of torch's two, forward + backward."""


class Weights(nn.Module):
    """A layer that consists of its weight."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(shape))

    def forward(self) -> Tensor:
        return self.weight


class Network(nn.Module):
    def __init__(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Weights(shape) for shape in shapes)

    def forward(self) -> list[Tensor]:
        return [layer() for layer in self.layers]


def torch_parametrizations(network: Network) -> Network:
    for layer in network.layers:
        parametrizations.spectral_norm(layer)
    return network


def torch_hooks(network: Network) -> Network:
    for layer in network.layers:
        hook_norm(layer)
    return network


def fastgan_group(network: Network) -> Network:
    for layer in network.layers:
        fastgan.nn.spectral_norm(layer)
    return spectral_norm_(network)  # type: ignore[return-value]


KINDS: dict[str, Callable[[Network], Network]] = {
    "parametrizations": torch_parametrizations, "hooks": torch_hooks, "fastgan": fastgan_group,
}  # fmt: skip


def forward(network: Network) -> list[Tensor]:
    with torch.no_grad():
        return network()


def layer_by_layer(network: Network) -> list[Tensor]:
    """All weights outside of the network's forward pass, one call each: the cost of weights not computed ahead."""
    with torch.no_grad():
        return [layer() for layer in network.layers]


def forward_and_backward(network: Network, cotangents: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(network(), list(network.parameters()), cotangents)


def error(network: Network, cotangents: list[Tensor]) -> float:
    """The largest relative error of a weight or gradient, with the u and v at hand, against the formula in float64."""
    network.eval()
    weights = [p.detach().double().requires_grad_() for p in network.parameters()]
    # Two vectors for each layer: u, as long as the weight has rows, then v.
    vectors = [buffer.double() for buffer in network.buffers()]
    exact = [w / (u @ w.flatten(1) @ v) for w, u, v in zip(weights, vectors[::2], vectors[1::2], strict=True)]
    gradients = torch.autograd.grad(exact, weights, [g.double() for g in cotangents])
    found = [*network(), *forward_and_backward(network, cotangents)]
    network.train()
    pairs = zip(found, [*exact, *gradients], strict=True)
    return max(((value.double() - truth).norm() / truth.norm()).item() for value, truth in pairs)


def measure_network(name: str, device: torch.device, budget_s: float) -> dict[str, Any]:
    shapes = NETWORKS[name]
    torch.manual_seed(0)
    cotangents = [torch.randn(shape, device=device) for shape in shapes]
    networks = {kind: build(Network(shapes)).to(device) for kind, build in KINDS.items()}
    errors = {kind: error(network, cotangents) for kind, network in networks.items()}
    limit = 2 * max(errors["parametrizations"], errors["hooks"]) + 4 * torch.finfo(torch.float32).eps
    if not errors["fastgan"] <= limit:
        raise SystemExit(f"{name}: fastgan is off by {errors['fastgan']:.2g}, torch by at most {limit / 2:.2g}")
    found: dict[str, Any] = {"network": name, "layers": len(shapes), "errors": errors}
    found["parameters"] = sum(p.numel() for p in networks["fastgan"].parameters())
    for stage, call in (
        ("forward", lambda n: partial(forward, n)),
        ("layer by layer", lambda n: partial(layer_by_layer, n)),
        ("forward+backward", lambda n: partial(forward_and_backward, n, cotangents)),
    ):
        calls = {kind: call(network) for kind, network in networks.items()}
        for kind, timing in measure.percentiles(calls, device, budget_s).items():
            found[f"{kind} {stage}"] = timing
        best = min(found[f"{kind} {stage}"]["median_ms"] for kind in ("parametrizations", "hooks"))
        found[f"speed-up {stage}"] = best / found[f"fastgan {stage}"]["median_ms"]
    return found


def print_table(rows: list[dict[str, Any]], targets: dict[str, float], console: "Console") -> None:
    from rich.table import Table

    table = Table()
    for column in (
        "network",
        "layers",
        "parameters",
        "stage",
        "parametrizations",
        "hooks",
        "fastgan",
        "speed-up",
        "target",
    ):
        table.add_column(column, justify="left" if column in ("network", "stage") else "right")
    for row in rows:
        for stage in STAGES:
            times = [f"{row[f'{kind} {stage}']['median_ms']:.3g} ms" for kind in KINDS]
            target = targets.get(row["network"]) if stage == "forward+backward" else None
            cells = [row["network"], str(row["layers"]), f"{row['parameters'] / 1e6:.1f} M", stage, *times]
            table.add_row(*cells, f"{row[f'speed-up {stage}']:.2f}x", "" if target is None else f"{target:g}x")
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.spectral_norm", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--budget", type=float, default=6.0, help="seconds for each network and stage")
    add_json_option(parser)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    console = Console(width=max(Console().width, 130))
    about = environment.collect(device)
    busy = environment.busy(about)
    if busy:
        console.print(f"This machine is busy (load {about['load_average']}): the figures will be inflated.")
    rows = [measure_network(name, device, arguments.budget) for name in arguments.networks]
    print_table(rows, TARGETS[device.type], console)
    if arguments.json:
        results = Comparison(SUITE, about, busy, arguments.budget, rows)
        console.print(f"wrote {results.save(arguments.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
