"""The command `fastgan evaluate`: measures a generator."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fastgan.cli.application import Checkpoint, Device, TaskFunction, app
from fastgan.errors import UserError


@app.command(no_args_is_help=True)
def evaluate(
    checkpoint: Checkpoint,
    n: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=100_000,
            help="Number of samples; of digits at least 898. (default: 2000; of stacked digits 26000)",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the latents.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
    device: Device = "auto",
    task: TaskFunction = None,
) -> None:
    """Measure a generator, beside what two parts of the real images score against each other.

    Digits at 8x8: Fréchet and kernel distance on a small classifier's features, and classes covered, how evenly; of a
    class-conditional generator how many samples are of the class that was asked for, and what a classifier learns from
    them (classification accuracy score).

    Stacked digits: how many of their 1,000 modes are covered, and how evenly.

    The classifier is trained in seconds on the first use and then kept in the user's cache.

    Other images, from 16x16 on: sliced Wasserstein distances between their patches, from fine details to coarse.

    Other tasks: their own figures, as a CycleGAN's errors of images that went there and back.

    \b
      fastgan evaluate runs/digits --n 2000 --out report.json
    """
    from fastgan.cli.measurement import measure, usual_samples
    from fastgan.cli.measurement_tables import show, show_figures
    from fastgan.recipes import load

    trained = load(checkpoint, device, task)
    about: dict[str, Any] = {"checkpoint": str(checkpoint), "step": trained.step, "n": n or 2000, "seed": seed}
    title = f"{checkpoint} at step {trained.step}"
    if not trained.task.images_from_noise:
        figures = trained.task.measure(trained.sources(), about["n"], seed)
        show_figures(figures, title)
    else:
        about["n"] = n or usual_samples(trained)
        report = measure(trained, about["n"], seed)
        show(report, title)
        figures = dataclasses.asdict(report)
    if out is not None:
        _write_json({**about, **figures}, out)


def _write_json(figures: dict[str, Any], out: Path) -> None:
    try:
        out.write_text(json.dumps(figures, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {out}")
