"""The command `fastgan sample`: draws images from a trained generator."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli.application import Checkpoint, Device, TaskFunction, app
from fastgan.errors import UserError

if TYPE_CHECKING:
    from fastgan.recipes import Trained


@app.command(no_args_is_help=True)
def sample(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="The .png, or .gif of a tour.")] = Path("grid.png"),
    n: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="Images, or rows. (default: 64, 8)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the latents.")] = 0,
    psi: Annotated[str, typer.Option(help="Truncation of a StyleGAN2, or several: 0.5,1.")] = "1",
    mix: Annotated[bool, typer.Option("--mix", help="Cross styles of n images.")] = False,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="A tour of n images.")] = False,
    interpolation: Annotated[
        str | None,
        typer.Option(help="spherical or linear in z. (StyleGAN2: in w)"),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="With N nearest training images.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A class by its name; several for a row of each."),
    ] = None,
    device: Device = "auto",
    task: TaskFunction = None,
) -> None:
    """Draw images from the averaged generator and write them as one grid.

    Of a task that makes no images of noise, as a CycleGAN, the picture that training shows of it.

    \b
      fastgan sample runs/digits --n 64 --seed 0 --out grid.png
      fastgan sample runs/animals --label "cat, small" --label dog --out animals.png
      fastgan sample runs/digits --neighbours 5 --n 8 --out neighbours.png
      fastgan sample runs/textures --psi 0.4,0.7,1 --out psi.png
      fastgan sample runs/textures --interpolate --n 4 --out tour.gif
    """
    from fastgan.recipes import load
    from fastgan.tasks import pictures
    from fastgan.tasks.grid import image_grid, write_png

    psis = _numbers("--psi", psi)
    alone = [mix, interpolate, neighbours is not None]
    if any(alone) and (len(psis) > 1 or sum(alone) > 1):
        raise UserError(
            "--mix, --interpolate and --neighbours each make a picture of their own, at one --psi; expected one of them"
        )
    if interpolation is not None and not interpolate:
        raise UserError(f"--interpolation is {interpolation!r}, expected --interpolate beside it")
    trained = load(checkpoint, device, task)
    generator: Any = trained.task
    if not generator.images_from_noise:
        if any(alone) or label or n is not None or psis != [1.0]:
            raise UserError("CHECKPOINT holds a task that makes no images of noise; expected --out and --seed alone")
        _only_picture(trained, out, seed)
        return
    given = label or []
    labels = generator.labels_of(given)
    if len(labels) > 1 and (any(alone) or len(psis) > 1):
        raise UserError(
            f"--label is {','.join(given)!r}, expected one class beside --psi, --mix, --interpolate or --neighbours"
        )
    each, written, one = n or 8, "", labels[0] if labels else None
    try:
        if interpolate:
            film = out.suffix.lower() == ".gif"
            images = pictures.interpolation(generator, each, seed, psis[0], 16 if film else 4, one, interpolation)
            if film:
                pictures.write_gif(images, out)
            else:
                write_png(image_grid(images, columns=len(images) if len(images) <= 16 else 16), out)
        elif neighbours is not None:
            from fastgan.cli.neighbours import neighbours_grid

            grid, near = neighbours_grid(trained, each, neighbours, seed, psis[0], one)
            write_png(grid, out)
            typer.echo(
                f"median distance to the nearest training image: samples {near.samples:.3f}, "
                f"training images {near.data:.3f}, ratio {near.ratio:.2f}"
            )
        elif mix:
            write_png(pictures.mixing_grid(generator, each, seed, psis[0]), out)
        elif len(psis) > 1:
            write_png(pictures.truncation_grid(generator, each, seed, psis), out)
        elif len(labels) > 1:
            write_png(pictures.class_grid(generator, each, seed, labels), out)
        else:
            images = generator.sample(n or 64, seed, psi=psis[0], labels=one)
            write_png(image_grid(images), out)
            written = f"{len(images)} images to "
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror or error}") from error
    typer.echo(f"wrote {written}{out}")


def _only_picture(trained: "Trained", out: Path, seed: int) -> None:
    """Writes the task's own picture of its data."""
    from fastgan.tasks.grid import write_png
    from fastgan.train.reader import Reader
    from fastgan.train.run import PICTURED

    given = Reader(trained.sources(), 1, trained.recipe.run.seed).first(PICTURED)
    write_png(trained.task.picture(given, seed), out)
    typer.echo(f"wrote {out}")


def _numbers(name: str, text: str) -> list[float]:
    """0.5,0.7 -> [0.5, 0.7]."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{name} is {text!r}, expected a number, or several with commas between them")
    return numbers
