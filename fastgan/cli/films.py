"""Films of small games, as a lecturer would show them, for `fastgan play`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from fastgan.data import MIXTURES, MixtureSource
from fastgan.errors import UserError, nearest, wrong
from fastgan.recipes.starting import run_of
from fastgan.tasks import Points
from fastgan.toys.dirac import trajectory, verdict
from fastgan.toys.dirac_recipes import DIRAC_RECIPES
from fastgan.toys.plane_recipes import PLANE_RECIPES, plane_recipe
from fastgan.train.run import Run
from fastgan.train.signals import StopRequest, stop_on_signals

FRAMES_PER_SECOND, SAMPLES, MESH = 12, 1000, 80
INK, DATA, SAMPLE = "#222222", "#1b7837", "#b2182b"


def slug(name: str) -> str:
    """A method's name as on the command line: `R1 + R2, relativistic` -> `r1-r2-relativistic`."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def methods(toy: str) -> dict[str, str]:
    """The methods of a toy: how the command line calls them -> how they are called elsewhere.

    Raises:
        UserError: there is no such toy.
    """
    if toy == "dirac":
        return {slug(name): name for name in DIRAC_RECIPES}
    if toy in MIXTURES:
        return {slug(name): name for name in PLANE_RECIPES}
    raise wrong("TOY", toy, nearest(toy, ["dirac", *MIXTURES]))


def play_toy(toy: str, method: str, out: Path | None, frames: int, steps: int | None, seed: int, **changes: Any) -> str:
    """Plays a toy game and shows it in a window, or writes a GIF; Ctrl-C ends the film there.

    Args:
        toy: `dirac`, `ring` or `grid`.
        method: one of `methods(toy)`.
        out: the GIF; None for a window.
        frames: pictures in the film, 2 to 1000.
        steps: number of steps, at least 1; None for the method's own number (500 of DiracGAN).
        seed: random seed of weights and samples, 0 to 2^63 - 1.
        changes: to the method's recipe: `loss`, `penalty`, `game`, `lr`.

    Returns:
        A sentence on the outcome.

    Raises:
        UserError: a name is unknown, a number is out of range, the method cannot be played with a change, the GIF
            cannot be written, or there is no display for a window.
    """
    known = methods(toy)
    if method not in known:
        raise wrong("--method", method, nearest(method, known))
    if not 2 <= frames <= 1000:
        raise wrong("--frames", frames, "2 to 1000")
    if steps is not None and steps < 1:
        raise wrong("--steps", steps, "at least 1")
    if not 0 <= seed < 2**63:
        raise wrong("--seed", seed, "0 to 2^63 - 1")
    played = _play_dirac if toy == "dirac" else _play_plane
    film = played(toy, known[method], steps, seed, changes)
    if out is None and pyplot.get_backend().lower() == "agg":
        raise UserError("--out is missing and there is no display to draw on, expected --out film.gif")
    if out is not None and out.suffix.lower() != ".gif":
        raise UserError(f"--out is {str(out)!r}, expected a file that ends in .gif")
    figure = pyplot.figure(figsize=(5, 5.4), layout="constrained")
    with stop_on_signals() as stop:
        _show(figure, film.pictures(figure, frames, f"{toy}: {method}"), frames, out, stop)
        told = film.told()
    pyplot.close(figure)
    return told


class _Film(NamedTuple):
    """A game that is drawn as it is played.

    Attributes:
        pictures: draws on a figure, of so many pictures, with a title: one at each step of the iterator.
        told: a sentence on the outcome so far.
    """

    pictures: Callable[[Figure, int, str], Iterator[None]]
    told: Callable[[], str]


def _play_dirac(toy: str, method: str, steps: int | None, seed: int, changes: dict[str, Any]) -> _Film:
    recipe = replace(DIRAC_RECIPES[method], **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        path = trajectory(recipe, 500 if steps is None else steps)
    return _Film(
        lambda figure, frames, title: _dirac(figure, path, frames, title), lambda: f"{verdict(path)}, {_reach(path)}"
    )


SETTINGS = {"loss": "task.loss", "penalty": "task.penalty", "game": "game.kind", "lr": "game.lr"}
"""Options of `fastgan play` -> settings of a recipe."""


def _play_plane(toy: str, method: str, steps: int | None, seed: int, changes: dict[str, Any]) -> _Film:
    settings = [f"{SETTINGS[name]}={value}" for name, value in changes.items()]
    if steps is not None:
        settings.append(f"run.steps={steps}")
    run = run_of(plane_recipe(method, toy, seed, settings))
    task, source = run.task, run.sources["image"]
    assert isinstance(task, Points)
    assert isinstance(source, MixtureSource)

    def told() -> str:
        if not task.sample(SAMPLES).isfinite().all():
            return f"diverges: the samples are no longer finite at step {run.step}"
        found = task.coverage(source)
        return f"{found.modes} of {found.of} modes, {found.high_quality:.1%} of high quality at step {run.step}"

    return _Film(lambda figure, frames, title: _plane(figure, run, task, source, frames, title), told)


def _reach(path: np.ndarray) -> str:
    """Describes the end of a trajectory: its distance from the equilibrium, or the step at which it diverged."""
    finite = np.isfinite(path).all(axis=1)
    if not finite.all():
        return f"no longer finite at step {finite.argmin()}"
    return f"at a distance of {np.linalg.norm(path[-1]):.2g} from the equilibrium"


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


def _plane(figure: Figure, run: Run, task: Points, source: MixtureSource, frames: int, title: str) -> Iterator[None]:
    """Trains and draws samples over the data's modes and the critic's values."""
    axes, mixture = figure.subplots(), source.mixture
    reach = 1.25 * mixture.means.abs().max().item()
    for step in np.linspace(0, run.settings.steps, frames).astype(int):
        while run.step < step:
            next(run)
        axes.clear()
        _critic_values(axes, task, mixture.scale, reach)
        x, y = mixture.means.T.numpy()
        axes.scatter(x, y, s=60, facecolors="none", edgecolors=DATA, label="modes of the data")
        x, y = (task.sample(SAMPLES) * mixture.scale).T.numpy()
        axes.scatter(x, y, s=3, color=SAMPLE, label="samples")
        found = task.coverage(source)
        told = f"step {step}: {found.modes} of {found.of} modes, {found.high_quality:.0%} of high quality"
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=f"{title}\n{told}")
        axes.legend(loc="lower right", fontsize=8)
        yield


def _critic_values(axes: Any, task: Points, scale: float, reach: float) -> None:
    """Shades the plane by the critic's value, lighter where it takes points for real."""
    mesh = torch.linspace(-reach, reach, MESH, dtype=torch.float32)
    x, y = torch.meshgrid(mesh, mesh, indexing="xy")
    values = task.judge(torch.stack([x, y], dim=-1).view(-1, 2) / scale).view(MESH, MESH)
    axes.imshow(values.numpy(), extent=(-reach, reach, -reach, reach), origin="lower", cmap="Greys_r", alpha=0.6)
