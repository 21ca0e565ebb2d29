"""One full training step with fastgan's compiled ops against the same model on their references.

    python -m benchmarks.train_step --recipe digits-dcgan --batch-size 64 256 --json out.json

Both run in this process, one step of each in turn, so that whatever else the machine does falls on both. Nothing is
timed before the gradients are checked, and no ratio is printed if they are wrong. The peak memory of a step, over the
networks, optimisers and data that stay, is that of the largest of the steps between two regularised ones (on a CPU in
a process of its own for each side).
"""

import argparse
import copy
import json
import platform
import time
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import fastgan
from benchmarks.memory import in_fresh_process, peak_cpu, peak_cuda
from fastgan import recipes
from fastgan.data import DIGITS, Images, load
from fastgan.errors import UserError
from fastgan.tasks import Batch
from fastgan.train.devices import choose_device
from fastgan.train.engine import TaskEngine, own_randomness
from fastgan.train.run import Run

SIDES = ("auto", "reference")
WARM_UP = 5


@dataclass(frozen=True)
class Accuracy:
    """Relative errors of a player's whole gradient in float32 against float64 on the references."""

    player: str
    ours: float
    reference: float

    @property
    def passed(self) -> bool:
        """At most twice the error of plain PyTorch in the same precision, or within its rounding."""
        return self.ours <= max(2 * self.reference, 4 * torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class Speed:
    """Milliseconds per step."""

    median: float
    p20: float
    p80: float


def run_of(recipe: str, batch_size: int, device: torch.device, resolution: str = "") -> Run:
    """A run of a recipe, which is stepped here, on the digits or on noise."""
    size = [f"data.resolution={resolution}"] if resolution else []
    chosen = recipes.read(recipe, [f"run.batch_size={batch_size}", "run.steps=1000000", f"run.device={device}", *size])
    source = _images(chosen.data.shape, batch_size)
    return Run(chosen.build({}), {"image": source}, chosen.game, chosen.run)


def gradients(run: Run, batch: Batch, backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Both sides' gradients as one float64 vector each, on a copy of the networks.

    The critic is in evaluation mode: the masks of dropout and the input noise differ between precisions. Path lengths
    are left out, whose random images do.
    """
    task = copy.deepcopy(run.task).to(dtype)
    task.critics.eval()
    engine = TaskEngine(task, run.engine.reader, 0, run.device)
    engine.begin(run.now()._replace(due=frozenset({"penalties"})))
    cast = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.tensors.items()}
    found = {}
    with fastgan.backend(backend), own_randomness(run.device):
        for side in ("critic", "generator"):
            engine.gradient(side, Batch(cast, batch.key))
            grads = [p.grad for p in task.side(side).parameters() if p.grad is not None]
            found[side] = torch.cat([g.flatten().double() for g in grads])
    return found


def check(run: Run) -> list[Accuracy]:
    """Compares both sides' gradients with float64 on a batch."""
    run.engine.begin(run.now())
    batch = run.engine.batch()
    exact = gradients(run, batch, "reference", torch.float64)
    single = {side: gradients(run, batch, side, torch.float32) for side in SIDES}

    def error(side: str, player: str) -> float:
        return ((single[side][player] - exact[player]).norm() / exact[player].norm()).item()

    return [Accuracy(player, error("auto", player), error("reference", player)) for player in exact]


def measure(runs: dict[str, Run], rounds: int) -> dict[str, Speed]:
    """Milliseconds of a full step on each side, a step of each in turn."""
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(WARM_UP + rounds):
        for side in SIDES if turn % 2 else reversed(SIDES):
            with fastgan.backend(side):
                _wait(runs[side].device)
                start = time.perf_counter()
                next(runs[side])
                _wait(runs[side].device)
            if turn >= WARM_UP:
                times[side].append(1000 * (time.perf_counter() - start))
    marks = torch.tensor([0.5, 0.2, 0.8], dtype=torch.float64)
    return {
        side: Speed(*torch.tensor(values, dtype=torch.float64).quantile(marks).tolist())
        for side, values in times.items()
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(side: str, device: torch.device, threads: int, recipe: str, batch_size: int, resolution: str) -> int:
    """Bytes that the largest step adds."""
    torch.set_num_threads(threads)
    run = run_of(recipe, batch_size, device, resolution)

    def steps() -> None:
        for _ in range(max(1, *run.task.lazy.values(), 1)):
            next(run)

    with fastgan.backend(side):
        if device.type == "cpu":
            return peak_cpu(steps)
        steps()  # warm-up
        return peak_cuda(steps)


def run(recipe: str, batch_size: int, rounds: int, device: torch.device, resolution: str = "") -> dict[str, object]:
    """Checks and measures one batch size.

    Returns:
        What --json writes: `accuracy` of both players, and `speed` and `peak` of both sides unless a check failed.
    """
    runs = {side: run_of(recipe, batch_size, device, resolution) for side in SIDES}
    accuracy = check(runs["auto"])
    result: dict[str, object] = {
        "batch_size": batch_size,
        "accuracy": [{**asdict(one), "passed": one.passed} for one in accuracy],
    }
    if all(one.passed for one in accuracy):
        result["speed"] = {side: asdict(speed) for side, speed in measure(runs, rounds).items()}
        settings = device, torch.get_num_threads(), recipe, batch_size, resolution
        result["peak"] = {
            side: in_fresh_process(peak_memory, side, *settings)
            if device.type == "cpu"
            else peak_memory(side, *settings)
            for side in SIDES
        }
    return result


def _images(shape: tuple[int, int, int], batch_size: int) -> Images:
    """The digits where they fit, or else noise: the speed does not depend on what the images show."""
    channels, *resolution = shape
    try:
        images = load(DIGITS, tuple(resolution), channels)
    except UserError:
        random = torch.Generator().manual_seed(0)
        return Images("noise", torch.randint(256, (batch_size, *shape), dtype=torch.uint8, generator=random))
    repeats = -(-batch_size // len(images))
    return Images(DIGITS, images.pixels.repeat(repeats, 1, 1, 1))


def table_of(results: list[dict]) -> Table:
    """Images per second of both sides; a ratio only where the check passed."""
    table = Table(
        "batch", "images/s ours (p20 to p80)", "images/s reference (p20 to p80)", "ratio", "peak MB ours", "reference"
    )
    for result in results:
        batch = result["batch_size"]
        if "speed" not in result:
            table.add_row(str(batch), "gradients differ", "", "none", "", "")
            continue
        ours, reference = result["speed"]["auto"], result["speed"]["reference"]

        def rates(speed: dict, batch: int = batch) -> str:
            median, slow, fast = (1000 * batch / speed[mark] for mark in ("median", "p80", "p20"))
            return f"{median:,.0f} ({slow:,.0f} to {fast:,.0f})"

        peaks = (f"{result['peak'][side] / 1e6:.1f}" for side in SIDES)
        table.add_row(str(batch), rates(ours), rates(reference), f"{reference['median'] / ours['median']:.2f}", *peaks)
    return table


def main() -> None:
    """Prints the table, writes the JSON; exit status 1 if any gradient is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    images = [name for name in recipes.names() if recipes.read(name).task.kind == "gan"]
    parser.add_argument("--recipe", default="digits-dcgan", choices=images)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256], help="one row each (64 256)")
    parser.add_argument("--resolution", default="", help="of the images: 64, or 64x32 (the recipe's)")
    parser.add_argument("--rounds", type=int, default=50, help="timed steps of each side (50)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    if min(options.batch_size) < 1 or options.rounds < 1:
        parser.error("--batch-size and --rounds must be at least 1")
    try:
        device = choose_device(options.device)
    except UserError as error:
        parser.error(str(error))

    console = Console()
    results = [
        run(options.recipe, batch_size, options.rounds, device, options.resolution) for batch_size in options.batch_size
    ]
    for result in results:
        for one in result["accuracy"]:
            console.print(
                f"batch {result['batch_size']}, {one['player']}'s gradient, error against float64: "
                f"ours {one['ours']:.1e}, reference {one['reference']:.1e}, {'ok' if one['passed'] else 'WRONG'}",
                highlight=False,
                soft_wrap=True,
            )
    console.print(table_of(results))
    if options.json:
        about = {
            "recipe": options.recipe,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "fastgan": fastgan.__version__,
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({**about, "results": results}, file, indent=2)
    if not all(one["passed"] for result in results for one in result["accuracy"]):
        raise SystemExit("the gradients differ: no speed-up is claimed")


if __name__ == "__main__":
    main()
