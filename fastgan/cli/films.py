"""Films of small games, as a lecturer would show them, for `fastgan play`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from fastgan.errors import UserError
from fastgan.options import wrong
from fastgan.toys.dirac import DiracRecipe, trajectory, verdict
from fastgan.toys.dirac_recipes import DIRAC_RECIPES
from fastgan.toys.mixtures import MIXTURES
from fastgan.toys.plane import PlaneGAN, PlaneRecipe
from fastgan.toys.plane_recipes import PLANE_RECIPES
from fastgan.train.signals import StopRequest, stop_on_signals

FRAMES_PER_SECOND, SAMPLES, MESH = 12, 1000, 80
INK, DATA, SAMPLE = "#222222", "#1b7837", "#b2182b"


def slug(name: str) -> str:
    """A method's name as on the command line: `R1 + R2, relativistic` -> `r1-r2-relativistic`."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def methods(game: str) -> dict[str, DiracRecipe] | dict[str, PlaneRecipe]:
    """The recipes of a game by their names on the command line.

    Raises:
        UserError: there is no such game.
    """
    if game == "dirac":
        return {slug(name): recipe for name, recipe in DIRAC_RECIPES.items()}
    if game in MIXTURES:
        return {slug(name): recipe for name, recipe in PLANE_RECIPES.items()}
    raise UserError(f"GAME is {game!r}, expected one of dirac, {', '.join(MIXTURES)}")


def play_game(
    game: str, method: str, out: Path | None, frames: int, steps: int | None, seed: int, **changes: Any
) -> str:
    """Plays a game and shows it in a window, or writes a GIF; Ctrl-C ends the film there.

    Args:
        game: `dirac`, `ring` or `grid`.
        method: one of `methods(game)`.
        out: the GIF; None for a window.
        frames: pictures in the film, 2 to 1000.
        steps: number of steps, at least 1; None for the method's own number (500 of DiracGAN).
        seed: random seed of weights and samples, 0 to 2^63 - 1.
        changes: to the method's recipe: `loss`, `penalty`, `optimizer`, `lr`.

    Returns:
        A sentence on the outcome.

    Raises:
        UserError: a name is unknown, a number is out of range, the method cannot be played with a change, the GIF
            cannot be written, or there is no display for a window.
    """
    recipe = _recipe(game, method, changes)
    if not 2 <= frames <= 1000:
        raise wrong("frames", frames, "2 to 1000")
    if steps is not None and steps < 1:
        raise wrong("steps", steps, "at least 1")
    if not 0 <= seed < 2**63:
        raise wrong("seed", seed, "0 to 2^63 - 1")
    if out is None and pyplot.get_backend().lower() == "agg":
        raise UserError("--out is missing and there is no display to draw on, expected --out film.gif")
    if out is not None and out.suffix.lower() != ".gif":
        raise UserError(f"--out is {str(out)!r}, expected a file that ends in .gif")
    figure = pyplot.figure(figsize=(5, 5.4), layout="constrained")
    title = f"{game}: {method}"
    with stop_on_signals() as stop:
        if isinstance(recipe, DiracRecipe):
            torch.manual_seed(seed)
            path = trajectory(recipe, 500 if steps is None else steps)
            told = f"{verdict(path)}, {_reach(path)}"
            _show(figure, _dirac(figure, path, frames, title), frames, out, stop)
        else:
            gan = PlaneGAN(MIXTURES[game](), recipe if steps is None else replace(recipe, steps=steps), seed)
            _show(figure, _plane(figure, gan, frames, title), frames, out, stop)
            found, finite = gan.coverage(), bool(gan.samples(SAMPLES).isfinite().all())
            told = f"{found.modes} of {found.of} modes, {found.high_quality:.1%} of high quality at step {gan.step}"
            told = told if finite else f"diverges: the samples are no longer finite at step {gan.step}"
    pyplot.close(figure)
    return told


def _reach(path: np.ndarray) -> str:
    """Describes the end of a trajectory: its distance from the equilibrium, or the step at which it diverged."""
    finite = np.isfinite(path).all(axis=1)
    if not finite.all():
        return f"no longer finite at step {finite.argmin()}"
    return f"at a distance of {np.linalg.norm(path[-1]):.2g} from the equilibrium"


def _recipe(game: str, method: str, changes: dict[str, Any]) -> DiracRecipe | PlaneRecipe:
    known = methods(game)
    if method not in known:
        raise wrong("method", method, f"one of {', '.join(known)}")
    return replace(known[method], **changes)


def _show(figure: Figure, pictures: Iterator[None], count: int, out: Path | None, stop: StopRequest) -> None:
    """Draws the pictures one after another, until the last or a request to stop."""
    console = Console(stderr=True)
    watched = track(pictures, "drawing", count, console=console, transient=True, disable=not console.is_terminal)
    with _screen(figure, out) as draw:
        for _ in watched:
            draw()
            if stop.signal is not None:
                return


@contextmanager
def _screen(figure: Figure, out: Path | None) -> Iterator[Any]:
    if out is None:
        pyplot.ion()
        yield lambda: pyplot.pause(1 / FRAMES_PER_SECOND)
        return
    writer = PillowWriter(fps=FRAMES_PER_SECOND)
    try:
        with writer.saving(figure, str(out), dpi=90):
            yield writer.grab_frame
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror or error}") from error


def _dirac(figure: Figure, path: np.ndarray, frames: int, title: str) -> Iterator[None]:
    """Draws the trajectory so far, theta to the right and psi upwards."""
    axes = figure.subplots()
    for end in np.linspace(1, len(path), frames).astype(int):
        axes.clear()
        axes.plot(0, 0, "+", color=INK, markersize=14)
        axes.plot(*path[:end].T, color=SAMPLE, linewidth=1)
        axes.plot(*path[end - 1], "o", color=SAMPLE)
        axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", title=f"{title}\nstep {end - 1}")
        axes.set(xlabel="θ, the generator's sample", ylabel="ψ, the critic's slope")
        yield


def _plane(figure: Figure, gan: PlaneGAN, frames: int, title: str) -> Iterator[None]:
    """Trains the GAN and draws its samples over the data's modes and the critic's values."""
    axes = figure.subplots()
    for step in np.linspace(0, gan.recipe.steps, frames).astype(int):
        gan.train(int(step) - gan.step)
        axes.clear()
        reach = 1.25 * gan.mixture.means.abs().max().item()
        _critic_values(axes, gan, reach)
        x, y = gan.mixture.means.T.numpy()
        axes.scatter(x, y, s=60, facecolors="none", edgecolors=DATA, label="modes of the data")
        x, y = gan.samples(SAMPLES).T.numpy()
        axes.scatter(x, y, s=3, color=SAMPLE, label="samples")
        found = gan.coverage()
        told = f"step {step}: {found.modes} of {found.of} modes, {found.high_quality:.0%} of high quality"
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=f"{title}\n{told}")
        axes.legend(loc="lower right", fontsize=8)
        yield


def _critic_values(axes: Any, gan: PlaneGAN, reach: float) -> None:
    """Shades the plane by the critic's value, lighter where it takes points for real."""
    mesh = torch.linspace(-reach, reach, MESH, dtype=torch.float32)
    x, y = torch.meshgrid(mesh, mesh, indexing="xy")
    values = gan.judge(torch.stack([x, y], dim=-1).view(-1, 2)).view(MESH, MESH)
    axes.imshow(values.numpy(), extent=(-reach, reach, -reach, reach), origin="lower", cmap="Greys_r", alpha=0.6)
