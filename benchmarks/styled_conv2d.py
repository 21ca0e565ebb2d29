"""Times StyleGAN2's whole layer (style, convolution, demodulation, noise, bias, activation) in every form.

    python -m benchmarks.styled_conv2d [--device cuda] [--dtype bfloat16] [--json FILE]

`scaled` is one convolution between scalings in plain PyTorch, `compiled` the same under torch.compile, `grouped` one
grouped convolution of a weight for each sample, as in StyleGAN2. Results are checked against float64 before anything is
timed; all run in this process, in alternation.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import environment, measure
from fastgan.ops.modulated_conv2d import styled_conv2d

if TYPE_CHECKING:  # imported where they are used: `make gpu` measures without rich
    from rich.console import Console

EPS = 1e-8


class Layer(NamedTuple):
    """A layer's batch, channels (in and out) and resolution."""

    B: int
    C: int
    R: int


LAYERS = {
    "cpu": (Layer(4, 512, 8), Layer(8, 128, 16), Layer(8, 128, 32), Layer(16, 64, 32), Layer(8, 64, 64),
            Layer(16, 24, 64), Layer(4, 32, 128)),
    "cuda": (Layer(32, 512, 32), Layer(32, 512, 64), Layer(16, 256, 128), Layer(8, 128, 256)),
}  # fmt: skip
TARGET = 1.3
"""The fused layer over the best alternative, forward and backward, from 32x32 on a CPU and from 64x64 on a GPU."""


def demodulated(weight: Tensor, styles: Tensor) -> Tensor:
    return (styles.square() @ weight.square().sum((2, 3)).t() + EPS).rsqrt()


def activated(z: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    return (F.leaky_relu(z + noise * strength + bias[:, None, None], 0.2) * 2**0.5).clamp(-256, 256)


def scaled(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    z = F.conv2d(x * styles[:, :, None, None].to(x.dtype), weight.to(x.dtype), padding=1)
    return activated(z * demodulated(weight, styles)[:, :, None, None].to(x.dtype), noise, strength, bias)


def grouped(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    B, C, H, W = x.shape
    w = weight * styles[:, None, :, None, None]
    w = w * (w.square().sum((2, 3, 4), keepdim=True) + EPS).rsqrt()
    z = F.conv2d(x.reshape(1, B * C, H, W), w.flatten(0, 1).to(x.dtype), padding=1, groups=B)
    return activated(z.view(B, -1, H, W), noise, strength, bias)


def ours(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    return styled_conv2d(x, weight, styles, noise, strength, bias, padding=1, act="lrelu", clamp=256.0)


KINDS: dict[str, Callable[..., Tensor]] = {"scaled": scaled, "compiled": scaled, "grouped": grouped, "fastgan": ours}


def inputs(layer: Layer, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """x, weight, styles, noise, strength, bias; all but the noise require a gradient."""

    def draw(*size: int) -> Tensor:
        return torch.randn(size, device=device)

    B, C, R = layer
    made = [draw(B, C, R, R).to(dtype), draw(C, C, 3, 3), 1 + 0.3 * draw(B, C), draw(R, R), draw(1), draw(C)]
    made = [t.to(dtype) if i in (3, 4, 5) else t for i, t in enumerate(made)]
    return [t.requires_grad_(i != 3) for i, t in enumerate(made)]


def forward(function: Callable[..., Tensor], given: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return function(*given)


def forward_and_backward(function: Callable[..., Tensor], given: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(function(*given), [t for t in given if t.requires_grad], cotangent)


def errors(given: list[Tensor], cotangent: Tensor) -> dict[str, float]:
    """The largest relative error of the result or a gradient of each form, against `grouped` in float64."""
    wide = [t.detach().double().requires_grad_(t.requires_grad) for t in given]
    exact = [grouped(*wide), *forward_and_backward(grouped, wide, cotangent.double())]
    found = {}
    for kind, function in KINDS.items():
        results = [function(*given), *forward_and_backward(function, given, cotangent)]
        pairs = zip(results, exact, strict=True)
        found[kind] = max(((value.double() - truth).norm() / truth.norm()).item() for value, truth in pairs)
    return found


def measure_layer(layer: Layer, device: torch.device, dtype: torch.dtype, budget_s: float) -> dict[str, Any]:
    torch.manual_seed(0)
    given = inputs(layer, device, dtype)
    cotangent = torch.randn(layer.B, layer.C, layer.R, layer.R, device=device, dtype=dtype)
    found: dict[str, Any] = {"layer": layer._asdict(), "errors": errors(given, cotangent)}
    limit = 2 * max(found["errors"]["scaled"], found["errors"]["grouped"])
    if not found["errors"]["fastgan"] <= limit:
        raise SystemExit(f"{layer}: fastgan is off by {found['errors']['fastgan']:.2g}, PyTorch by {limit / 2:.2g}")
    torch.compiler.reset()
    functions = {**KINDS, "compiled": torch.compile(scaled, dynamic=False)}
    for stage, call in (
        ("forward", lambda f: partial(forward, f, given)),
        ("forward+backward", lambda f: partial(forward_and_backward, f, given, cotangent)),
    ):
        calls = {kind: call(function) for kind, function in functions.items()}
        for kind, timing in measure.percentiles(calls, device, budget_s).items():
            found[f"{kind} {stage}"] = timing
    return found


def print_table(rows: list[dict[str, Any]], console: "Console") -> None:
    from rich.table import Table

    table = Table("layer", "stage", *KINDS, "vs scaled", "vs the best")
    for row in rows:
        layer = Layer(**row["layer"])
        for stage in ("forward", "forward+backward"):
            times = {kind: row[f"{kind} {stage}"]["median_ms"] for kind in KINDS}
            mine = times["fastgan"]
            best = min(value for kind, value in times.items() if kind != "fastgan")
            table.add_row(
                f"{layer.B}x{layer.C}x{layer.R}x{layer.R}", stage, *(f"{value:.3g} ms" for value in times.values()),
                f"{times['scaled'] / mine:.2f}x", f"{best / mine:.2f}x",
            )  # fmt: skip
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.styled_conv2d", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for each stage of a layer (3)")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    about = environment.collect(device)
    console = Console(width=max(Console().width, 130))
    if environment.busy(about):
        console.print("This machine is busy: the figures will be inflated.")
    rows = [
        measure_layer(layer, device, getattr(torch, options.dtype), options.budget) for layer in LAYERS[device.type]
    ]
    print_table(rows, console)
    console.print(f"Goal from {'32x32' if device.type == 'cpu' else '64x64'} on: {TARGET:g}x, forward and backward.")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "dtype": options.dtype, "rows": rows}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
