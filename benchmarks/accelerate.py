"""Times a critic's step before and after `fastgan.accelerate`, for critics written with torch.nn or with functions.

    python -m benchmarks.accelerate [--batch 32] [--report] [--json [PATH]]

Three steps of a critic are timed in this process, a model and its accelerated copy in alternation, after the gradients
have been found to agree in float64: without a penalty, with R1 differentiated twice by hand, and with
`fastgan.critic_loss`, which needs no accelerated model and says what more there is to gain.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fastgan
from benchmarks import environment, measure
from benchmarks.comparisons import Comparison, add_json_option
from benchmarks.functional_critics import GroupedCritic, NormalisedCritic, StyleGAN2Critic
from fastgan.penalties import R1

SUITE = "accelerate"
PLAIN, OURS = "torch.nn", "accelerated"
SLOPE, GAMMA = 0.1, 10.0


def normalised(layer: nn.Module) -> nn.Module:
    return parametrizations.spectral_norm(layer)


def dcgan_sn(width: int = 64) -> nn.Module:
    """The standard critic of Miyato et al. 2018, table 3, with torch's spectral norm."""
    layers: list[nn.Module] = []
    sizes = ((3, width, 3), (width, width, 4), (width, 2 * width, 3), (2 * width, 2 * width, 4))
    for before, after, kernel in (*sizes, (2 * width, 4 * width, 3), (4 * width, 4 * width, 4)):
        conv = nn.Conv2d(before, after, kernel, stride=2 if kernel == 4 else 1, padding=1)
        layers += [normalised(conv), nn.LeakyReLU(SLOPE)]
    layers += [normalised(nn.Conv2d(4 * width, 8 * width, 3, padding=1)), nn.LeakyReLU(SLOPE), nn.Flatten()]
    return nn.Sequential(*layers, normalised(nn.Linear(8 * width * 16, 1)))


class Block(nn.Module):
    """The residual block of SNGAN's critic (Miyato et al. 2018)."""

    def __init__(self, before: int, after: int, halve: bool, first: bool = False) -> None:
        super().__init__()
        self.before = nn.Identity() if first else nn.ReLU()
        self.first = normalised(nn.Conv2d(before, after, 3, padding=1))
        self.relu = nn.ReLU()
        self.second = normalised(nn.Conv2d(after, after, 3, padding=1))
        self.skip = normalised(nn.Conv2d(before, after, 1)) if halve or before != after else nn.Identity()
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.second(self.relu(self.first(self.before(x))))) + self.pool(self.skip(x))


class SNGAN(nn.Module):
    """SNGAN's critic for 32x32 images (table 4)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        blocks = (Block(3, width, True, first=True), Block(width, width, True), Block(width, width, False))
        self.blocks = nn.Sequential(*blocks, Block(width, width, False), nn.ReLU())
        self.head = normalised(nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).sum((2, 3)))


CRITICS: dict[str, Callable[[], nn.Module]] = {
    "DCGAN-SN": dcgan_sn,
    "SNGAN": SNGAN,
    "grouped, functional": GroupedCritic,
    "StyleGAN2, functional": StyleGAN2Critic,
    "SNGAN, subclasses": NormalisedCritic,
}


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def plain(critic: nn.Module, real: Tensor, fake: Tensor) -> None:
    hinge(critic(real), critic(fake)).backward()


def penalised(critic: nn.Module, real: Tensor, fake: Tensor) -> None:
    x = real.detach().requires_grad_()
    logits = critic(x)
    (g,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    (hinge(logits, critic(fake)) + GAMMA / 2 * g.square().flatten(1).sum(1).mean()).backward()


def one_pass(critic: nn.Module, real: Tensor, fake: Tensor) -> None:
    fastgan.critic_loss(critic, real, fake, loss="hinge", penalties=(R1(GAMMA),)).backward()


STEPS = {"hinge": plain, "hinge + R1 by hand": penalised, "hinge + R1, fastgan.critic_loss": one_pass}


def gradients(step: Callable[..., None], critic: nn.Module, *samples: Tensor) -> list[Tensor]:
    critic.zero_grad()
    step(critic, *samples)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in critic.parameters()]


def difference(critic: nn.Module, real: Tensor, fake: Tensor) -> float:
    """The largest relative difference that `accelerate` makes to a gradient, in float64."""
    wide = copy.deepcopy(critic).double()
    accelerated = copy.deepcopy(wide)
    fastgan.accelerate(accelerated)
    samples = real.double(), fake.double()
    worst = 0.0
    for step in (plain, penalised):
        pairs = zip(gradients(step, wide, *samples), gradients(step, accelerated, *samples), strict=True)
        worst = max(worst, *(((a - b).norm() / b.norm().clamp(min=1e-30)).item() for a, b in pairs))
    return worst


def measure_critic(name: str, batch: int, budget_s: float, report: bool) -> list[dict[str, Any]]:
    """One row for each step: the critic as it is and accelerated, in alternation.

    Raises:
        SystemExit: acceleration changes a gradient.
    """
    torch.manual_seed(0)
    critic = CRITICS[name]()
    real, fake = torch.randn(batch, 3, 32, 32), torch.randn(batch, 3, 32, 32)
    worst = difference(critic, real[:4], fake[:4])
    if not worst < 1e-10:
        raise SystemExit(f"{name}: accelerate changes a gradient by {worst:.2g}")
    accelerated = copy.deepcopy(critic)
    found = fastgan.accelerate(accelerated)
    if report:
        print(found)
    rows = []
    for label, step in STEPS.items():
        calls = {key: partial(step, model, real, fake) for key, model in ((PLAIN, critic), (OURS, accelerated))}
        timings = measure.percentiles(calls, torch.device("cpu"), budget_s)
        rows.append({"critic": name, "batch": batch, "step": label, **timings})
    return rows


def print_table(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table()
    for column in ("critic", "batch", "step", PLAIN, OURS, "ratio"):
        table.add_column(column, justify="left" if column in ("critic", "step") else "right")
    for row in rows:
        before, after = row[PLAIN]["median_ms"], row[OURS]["median_ms"]
        cells = (row["critic"], str(row["batch"]), row["step"], f"{before:.3g} ms", f"{after:.3g} ms")
        table.add_row(*cells, f"{before / after:.2f}x")
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerate", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="real and again fake images")
    parser.add_argument("--critics", nargs="+", choices=list(CRITICS), default=list(CRITICS))
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each line")
    parser.add_argument("--report", action="store_true", help="print what became of each layer")
    add_json_option(parser)
    arguments = parser.parse_args(argv)
    console = Console(width=max(Console().width, 130))
    about = environment.collect(torch.device("cpu"))
    busy = environment.busy(about)
    if busy:
        console.print(f"This machine is busy (load {about['load_average']}): the figures will be inflated.")
    rows: list[dict[str, Any]] = []
    for name in arguments.critics:
        rows += measure_critic(name, arguments.batch, arguments.budget, arguments.report)
    print_table(rows, console)
    if arguments.json:
        results = Comparison(SUITE, about, busy, arguments.budget, rows)
        console.print(f"wrote {results.save(arguments.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
