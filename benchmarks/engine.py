"""What the engine costs: a step of a run against the same calls in a bare loop, one of each in turn.

    python -m benchmarks.engine [--rounds 200] [--json [PATH]]

Both train the recipe's networks on the same data: batches by index, latents, the critic's loss with its penalties, the
generator's, two fused Adams and the averaged generator. The bare loop has no schedules, seeds, logs or guards.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.comparisons import Comparison, add_json_option
from benchmarks.environment import busy, collect
from benchmarks.markdown import head, line
from fastgan import recipes
from fastgan.nn import statistics_of
from fastgan.penalties import critic_loss
from fastgan.train import Run

RECIPES = ("digits-dcgan", "digits-resnet")
GOAL = 1.05


def bare(run: Run) -> Callable[[], None]:
    """A step on copies of a run's networks, as anyone would write it."""
    task, settings, game = run.task, run.settings, run.game_settings
    generator, critic, average = (
        copy.deepcopy(network)
        for network in (task.generators["generator"], task.critics["critic"], task.averages["generator"])
    )
    images, loss, penalties = run.sources["image"], task.loss, task.penalties
    betas = (game.beta1, game.beta2)
    of_critic = torch.optim.Adam(critic.parameters(), game.lr_critic, betas, fused=True)
    of_generator = torch.optim.Adam(generator.parameters(), game.lr, betas, fused=True)
    random = torch.Generator().manual_seed(0)

    def latents() -> torch.Tensor:
        return torch.randn(settings.batch_size, task.latent_dim, generator=random)

    def step() -> None:
        real = images.batch(torch.randint(len(images), (settings.batch_size,), generator=random))
        generator.requires_grad_(False)
        fake = generator(latents())
        of_critic.zero_grad()
        if penalties:
            critic_loss(critic, real, fake, loss=loss, penalties=penalties).backward()
        else:
            of_real = critic(real)
            with statistics_of("fake", critic):
                loss.critic(of_real, critic(fake)).backward()
        of_critic.step()
        generator.requires_grad_(True)
        critic.requires_grad_(False)
        of_generator.zero_grad()
        of_fake = critic(generator(latents()))
        loss.generator(of_fake, critic(real) if loss.needs_real else None).backward()
        of_generator.step()
        critic.requires_grad_(True)
        averaged, current = average.state_dict(), generator.state_dict()
        floating = [name for name, value in current.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([averaged[n] for n in floating], [current[n] for n in floating], 1 - settings.ema)

    return step


def measure(recipe: str, rounds: int) -> dict[str, float]:
    """Medians of both, in milliseconds, and of the ratios of neighbours."""
    run = recipes.run_of(recipes.read(recipe, ["run.device=cpu", f"run.steps={10 * rounds + 100}"]))
    loop = bare(run)
    sides: dict[str, Callable[[], object]] = {"engine": lambda: next(run), "loop": loop}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(10 + rounds):
        for name in sides if turn % 2 else reversed(sides):
            start = time.perf_counter()
            sides[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    kept = {name: values[10:] for name, values in times.items()}
    ratios = [a / b for a, b in zip(kept["engine"], kept["loop"], strict=True)]
    medians = {name: statistics.median(values) for name, values in kept.items()}
    return {**medians, "ratio": statistics.median(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    add_json_option(parser)

    arguments = parser.parse_args()
    found = {recipe: measure(recipe, arguments.rounds) for recipe in arguments.recipes}
    print("\n".join(head(("step of", "engine", "bare loop", f"ratio (goal {GOAL})"))))
    for recipe, values in found.items():
        print(line([recipe, f"{values['engine']:.2f} ms", f"{values['loop']:.2f} ms", f"{values['ratio']:.3f}"]))
    if arguments.json is not None:
        about = collect(torch.device("cpu"))
        rows = [{"recipe": recipe, **values} for recipe, values in found.items()]
        print(f"wrote {Comparison('engine', about, busy(about), 0.0, rows).save(arguments.json)}")


if __name__ == "__main__":
    main()
