"""The command `fastgan evaluate`: measures a generator."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli.application import Checkpoint, Device, app
from fastgan.errors import UserError

if TYPE_CHECKING:
    from fastgan.cli.measurement import EvaluationReport


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
) -> None:
    """Measure a generator, beside what two parts of the real images score against each other.

    Digits at 8x8: Fréchet and kernel distance on a small classifier's features, and classes covered, how evenly; of a
    class-conditional generator how many samples are of the class that was asked for, and what a classifier learns from
    them (classification accuracy score).

    Stacked digits: how many of their 1,000 modes are covered, and how evenly.

    The classifier is trained in seconds on the first use and then kept in the user's cache.

    Other images, from 16x16 on: sliced Wasserstein distances between their patches, from fine details to coarse.

    \b
      fastgan evaluate runs/digits --n 2000 --out report.json
    """
    from fastgan.cli.measurement import measure, usual_samples
    from fastgan.cli.measurement_tables import show
    from fastgan.train import load_generator

    generator = load_generator(checkpoint, device)
    n = usual_samples(generator) if n is None else n
    report = measure(generator, n, seed)
    show(report, f"{checkpoint} at step {generator.step}")
    if out is not None:
        _write_json(report, out, {"checkpoint": str(checkpoint), "step": generator.step, "n": n, "seed": seed})


def _write_json(report: "EvaluationReport", out: Path, about: dict[str, Any]) -> None:
    try:
        out.write_text(json.dumps({**about, **dataclasses.asdict(report)}, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {out}")
