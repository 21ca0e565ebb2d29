"""Times and checks `method="directional"` on smooth critics, beside double backward and what else has been tried.

    python -m benchmarks.directional [--device cuda] [--json [PATH]]

The critics are a transformer of 4 blocks at 256 and 1,024 tokens and a ResNet with SiLU and group norm. Errors are
those of the gradient of R1 alone and of loss plus R1 in float32 and under bfloat16 autocast, relative to float64. The
random probe is the estimate lambda mean (D(x) - D(x + sigma z))^2 of several code bases.
"""

import argparse
import copy
import math
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import environment, measure, memory
from benchmarks.comparisons import Comparison, add_json_option
from fastgan.penalties import R1, R2, WGANGP, Penalty, critic_loss, gradient_penalty

if TYPE_CHECKING:  # imported where it is used: `make gpu` measures without rich
    from rich.console import Console

SUITE = "directional"
BOTH: tuple[Penalty, ...] = (R1(10.0), R2(10.0))
PROBES = 64


class Block(nn.Module):
    """Pre-norm self-attention and a perceptron of GELU."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.before, self.after, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class Transformer(nn.Module):
    """Patches of 4x4 as tokens, with positions."""

    def __init__(self, resolution: int, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, width, 4, 4), nn.Linear(width, 1)
        self.positions = nn.Parameter(0.1 * torch.randn((resolution // 4) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).flatten(2).transpose(1, 2) + self.positions).mean(1))


def smooth_resnet() -> nn.Module:
    """Three strided stages of 3x3 convolutions with group norm and SiLU."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1)]
    for before, after in ((64, 128), (128, 256), (256, 256)):
        layers += [nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, after, 3, 2, 1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 16, 1))


@dataclass(frozen=True)
class Kind:
    """A critic, the resolution of its images, and the number of each kind, real and fake."""

    build: Callable[[], nn.Module]
    resolution: int
    batch: int


KINDS = {
    "transformer, 256 tokens": Kind(lambda: Transformer(64), 64, 8),
    "transformer, 1,024 tokens": Kind(lambda: Transformer(128), 128, 2),
    "resnet": Kind(smooth_resnet, 32, 16),
}


@dataclass
class Subject:
    """A critic and its batches."""

    critic: nn.Module
    real: Tensor
    fake: Tensor

    def double(self) -> "Subject":
        return Subject(copy.deepcopy(self.critic).double(), self.real.double(), self.fake.double())

    def take(self, step: Callable[["Subject"], None]) -> list[Tensor]:
        """The gradients that a step deposits; nothing of it stays behind."""
        step(self)
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.critic.parameters()]
        self.critic.zero_grad()
        return found


def subject_of(kind: Kind, device: torch.device) -> Subject:
    torch.manual_seed(1)
    critic, shape = kind.build(), (kind.batch, 3, kind.resolution, kind.resolution)
    return Subject(critic.to(device), torch.randn(shape).to(device), (0.7 * torch.randn(shape) + 0.2).to(device))


# --- the steps --------------------------------------------------------------------------------------------------------


def logistic(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def plain(subject: Subject) -> None:
    logistic(subject.critic(subject.real), subject.critic(subject.fake)).backward()


def joint(penalties: tuple[Penalty, ...], subject: Subject) -> None:
    """The textbook, for R1 and R2: the gradient with create_graph, and one backward pass."""
    outputs, total = {}, torch.zeros((), device=subject.real.device)
    with sdpa_kernel(SDPBackend.MATH):  # the only one that PyTorch differentiates twice
        for at, x in (("real", subject.real.detach()), ("fake", subject.fake.detach())):
            penalty = next((p for p in penalties if p.at == at), None)
            outputs[at] = subject.critic(x.requires_grad_(penalty is not None))
            if penalty is not None:
                (g,) = torch.autograd.grad(outputs[at].sum(), x, create_graph=True)
                total = total + penalty.rho.weight / 2 * g.square().flatten(1).sum(1).mean()
        (total + logistic(outputs["real"], outputs["fake"])).backward()


def fastgan(method: str, penalties: tuple[Penalty, ...], subject: Subject) -> None:
    loss = "wasserstein" if isinstance(penalties[0], WGANGP) else logistic
    critic_loss(subject.critic, subject.real, subject.fake, loss=loss, penalties=penalties, method=method).backward()


def forward_mode(subject: Subject) -> None:
    """R1 by torch.func.jvp along v, and a backward pass through it."""
    x = subject.real.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        y = subject.critic(x)
        (g,) = torch.autograd.grad(y.sum(), x)
        s = torch.sigmoid(-y.detach()) / -len(y)
        y, slope = torch.func.jvp(subject.critic, (x.detach(),), (10.0 / len(x) * g,))
        ((s * y).sum() + slope.sum() + F.softplus(subject.critic(subject.fake)).mean()).backward()


STEPS: dict[str, Callable[[Subject], None]] = {
    "plain": plain,
    "R1, joint": partial(joint, BOTH[:1]),
    "R1, double_backward": partial(fastgan, "double_backward", BOTH[:1]),
    "R1, torch.func.jvp": forward_mode,
    "R1, directional": partial(fastgan, "directional", BOTH[:1]),
    "R1 + R2, joint": partial(joint, BOTH),
    "R1 + R2, directional": partial(fastgan, "directional", BOTH),
    "WGAN-GP, directional": partial(fastgan, "directional", (WGANGP(10.0),)),
    "R1, random_probe": partial(fastgan, "random_probe", BOTH[:1]),
}
EXACT = {"R1, joint": 1e-5, "R1, double_backward": 1e-5, "R1, torch.func.jvp": math.inf, "R1, directional": 1e-4}
"""What has R1's gradient in float32, and how far from float64 it may be. (PyTorch's backward pass through the
forward-mode derivative of a layer norm is wrong, in float64 too.)"""


# --- errors -----------------------------------------------------------------------------------------------------------


def distance(found: list[Tensor], truth: list[Tensor]) -> float:
    difference = sum((f.double() - t).square().sum() for f, t in zip(found, truth, strict=True))
    return float((difference / sum(t.square().sum() for t in truth)) ** 0.5)


def errors(subject: Subject) -> dict[str, float]:
    """The relative error of each step that has R1's gradient."""
    truth = subject.double().take(STEPS["R1, joint"])
    return {name: distance(subject.take(STEPS[name]), truth) for name in EXACT}


def errors_of_r1_alone(subject: Subject) -> dict[str, float]:
    """The same without a loss, in float32 and under bfloat16 autocast; the probe's for one draw and for 64."""

    def r1(method: str, half: bool, of: Subject) -> None:
        autocast = torch.autocast(of.real.device.type, torch.bfloat16) if half else nullcontext()
        with autocast:
            gradient_penalty(of.critic, of.real, R1(10.0), method=method).backward()

    truth = subject.double().take(partial(r1, "double_backward", False))
    found = {
        f"{method}, {'bfloat16' if half else 'float32'}": distance(subject.take(partial(r1, method, half)), truth)
        for method in ("double_backward", "directional")
        for half in (False, True)
    }
    probes = [subject.take(partial(r1, "random_probe", False)) for _ in range(PROBES)]
    found["random_probe, one draw"] = statistics.median(distance(probe, truth) for probe in probes)
    mean = [torch.stack(tensors).mean(0) for tensors in zip(*probes, strict=True)]
    found[f"random_probe, mean of {PROBES}"] = distance(mean, truth)
    return found


# --- the run ----------------------------------------------------------------------------------------------------------


def peak_in_this_process(name: str, step: str) -> int:
    subject = subject_of(KINDS[name], torch.device("cpu"))
    return memory.peak_cpu(partial(subject.take, STEPS[step]), 1)


def measure_kind(name: str, device: torch.device, budget_s: float) -> dict[str, Any]:
    subject = subject_of(KINDS[name], device)
    found: dict[str, Any] = {"critic": name, "batch": KINDS[name].batch, "errors": errors(subject)}
    for step, limit in EXACT.items():
        if not found["errors"][step] <= limit:
            raise SystemExit(f"{name}: {step} is off by {found['errors'][step]:.2g}, expected at most {limit:g}")
    found["alone"] = errors_of_r1_alone(subject)
    calls: dict[str, measure.Call] = {step: partial(subject.take, run) for step, run in STEPS.items()}
    found["time"] = measure.percentiles(calls, device, budget_s)
    if device.type == "cuda":
        found["memory"] = {step: memory.peak_cuda(call) for step, call in calls.items()}
    else:
        found["memory"] = {step: memory.in_fresh_process(peak_in_this_process, name, step) for step in STEPS}
    return found


def print_table(row: dict[str, Any], console: "Console") -> None:
    from rich.table import Table

    table = Table(title=f"{row['critic']}, batch {row['batch']}", title_justify="left")
    for heading in ("step", "median", "over plain", "over R1, joint", "memory", "error"):
        table.add_column(heading, justify="left" if heading == "step" else "right", no_wrap=True)
    of = {step: figures["median_ms"] for step, figures in row["time"].items()}
    for step, milliseconds in of.items():
        error = row["errors"].get(step)
        table.add_row(
            step,
            f"{milliseconds:.1f} ms",
            f"{milliseconds / of['plain']:.2f}x",
            f"{milliseconds / of['R1, joint']:.2f}x",
            f"{row['memory'][step] / 2**20:.0f} MiB",
            "" if error is None else f"{error:.1e}",
        )
    console.print(table)
    console.print("R1 alone, error: " + "; ".join(f"{name} {error:.2g}" for name, error in row["alone"].items()))


def main(argv: list[str] | None = None) -> int:
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.directional", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--critics", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each critic")
    add_json_option(parser)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    console = Console(width=max(Console().width, 120))
    about = environment.collect(device)
    busy = environment.busy(about)
    rows = []
    for name in arguments.critics:
        rows.append(measure_kind(name, device, arguments.seconds))
        print_table(rows[-1], console)
    if arguments.json is not None:
        console.print(f"wrote {Comparison(SUITE, about, busy, arguments.seconds, rows).save(arguments.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
