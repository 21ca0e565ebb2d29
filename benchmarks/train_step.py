"""One full training step with fastgan's compiled ops against the same model on their references.

    python -m benchmarks.train_step --preset digits-dcgan --batch-size 64 256 --json out.json

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
from fastgan.data import DIGITS, Images, load
from fastgan.errors import UserError
from fastgan.losses import Loss
from fastgan.models import PRESETS
from fastgan.penalties import critic_loss
from fastgan.train import TrainConfig
from fastgan.train.devices import choose_device
from fastgan.train.regularisation import Regularisation
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

SIDES = ("auto", "reference")
WARM_UP = 5

Objective = tuple[Loss, Regularisation]


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


def gradients(
    state: TrainState, objective: Objective, images: Tensor, latents: Tensor, backend: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Both players' gradients as one float64 vector each, on a copy of the networks.

    The critic is in evaluation mode: the masks of dropout and the input noise differ between precisions.
    """
    loss, penalties = objective[0], objective[1].penalties
    generator = copy.deepcopy(state.generator).to(dtype)
    critic = copy.deepcopy(state.critic).to(dtype).eval()
    images, latents = images.to(dtype), latents.to(dtype)
    with fastgan.backend(backend), torch.random.fork_rng():
        torch.manual_seed(0)  # the points between data and samples
        samples = generator(latents)
        real_logits = critic(images).detach() if loss.needs_real else None
        values = {
            "critic": (critic_loss(critic, images, samples.detach(), loss=loss, penalties=penalties), critic),
            "generator": (loss.generator(critic(samples), real_logits), generator),
        }
        return {
            player: torch.cat([g.flatten().double() for g in torch.autograd.grad(value, list(network.parameters()))])
            for player, (value, network) in values.items()
        }


def check(state: TrainState, objective: Objective) -> list[Accuracy]:
    """Compares both players' gradients with float64 on a batch."""
    images, latents = state.next_batch().images, state.next_latents()
    exact = gradients(state, objective, images, latents, "reference", torch.float64)
    single = {side: gradients(state, objective, images, latents, side, torch.float32) for side in SIDES}

    def error(side: str, player: str) -> float:
        return ((single[side][player] - exact[player]).norm() / exact[player].norm()).item()

    return [Accuracy(player, error("auto", player), error("reference", player)) for player in exact]


def measure(states: dict[str, TrainState], objective: Objective, rounds: int, device: torch.device) -> dict[str, Speed]:
    """Milliseconds of a full step on each side, a step of each in turn."""
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(WARM_UP + rounds):
        for side in SIDES if turn % 2 else reversed(SIDES):
            with fastgan.backend(side):
                _wait(device)
                start = time.perf_counter()
                train_step(states[side], objective[1])
                _wait(device)
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


def peak_memory(config: TrainConfig, side: str, device: torch.device, threads: int) -> int:
    """Bytes that the largest step adds."""
    torch.set_num_threads(threads)
    channels, size = config.image_shape
    state = TrainState(config, _images(size, channels, config.batch_size), device)
    regularisation = config.regularisation

    def steps() -> None:
        for _ in range(max(regularisation.penalty_every, regularisation.path_length_every)):
            train_step(state, regularisation)

    with fastgan.backend(side):
        if device.type == "cpu":
            return peak_cpu(steps)
        steps()  # warm-up
        return peak_cuda(steps)


def run(
    preset_name: str, batch_size: int, rounds: int, device: torch.device, resolution: str = ""
) -> dict[str, object]:
    """Checks and measures one batch size.

    Returns:
        What --json writes: `accuracy` of both players, and `speed` and `peak` of both sides unless a check failed.
    """
    config = TrainConfig.for_preset(preset_name, out="", batch_size=batch_size, resolution=resolution)
    objective = config.objective, config.regularisation
    channels, size = config.image_shape
    images = _images(size, channels, batch_size)
    states = {side: TrainState(config, images, device) for side in SIDES}
    with states["auto"].layer_randomness():
        accuracy = check(states["auto"], objective)
        result: dict[str, object] = {
            "batch_size": batch_size,
            "accuracy": [{**asdict(one), "passed": one.passed} for one in accuracy],
        }
        if all(one.passed for one in accuracy):
            result["speed"] = {s: asdict(t) for s, t in measure(states, objective, rounds, device).items()}
            threads = torch.get_num_threads()
            result["peak"] = {
                side: in_fresh_process(peak_memory, config, side, device, threads)
                if device.type == "cpu"
                else peak_memory(config, side, device, threads)
                for side in SIDES
            }
    return result


def _images(resolution: tuple[int, int], channels: int, batch_size: int) -> Images:
    """The digits where they fit, or else noise: the speed does not depend on what the images show."""
    try:
        images = load(DIGITS, resolution, channels)
    except UserError:
        random = torch.Generator().manual_seed(0)
        shape = (batch_size, channels, *resolution)
        pixels = torch.randint(256, shape, dtype=torch.uint8, generator=random)
        return Images("noise", pixels)
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
    parser.add_argument("--preset", default="digits-dcgan", choices=sorted(PRESETS))
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256], help="one row each (64 256)")
    parser.add_argument("--resolution", default="", help="of the images: 64, or 64x32 (the preset's)")
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
        run(options.preset, batch_size, options.rounds, device, options.resolution) for batch_size in options.batch_size
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
            "preset": options.preset,
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
