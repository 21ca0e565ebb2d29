"""`fastgan train | sample | evaluate | play | bench | info`.

Each command imports what it needs when it runs, so that `fastgan info` and the help need typer and rich, but none of
the training libraries.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.models import PRESETS
from fastgan.penalties import PENALTIES

try:
    import rich  # noqa: F401 (`evaluate` and `info` print with it)
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError as error:
    raise SystemExit(f"fastgan's command line needs {error.name}: pip install 'fastgan[cli]'") from error

if TYPE_CHECKING:
    from fastgan.metrics import DigitsReport, PatchReport
    from fastgan.train import TrainResult

_EXTRAS = {"safetensors", "PIL", "sklearn", "scipy", "tensorboard", "torchmetrics", "matplotlib"}


class _Commands(TyperGroup):
    """Turns what a person can correct into one line on stderr and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _fail(str(error))
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _EXTRAS:
                raise
            extra = "play" if error.name == "matplotlib" else "train"
            _fail(f"this command needs {error.name}: pip install 'fastgan[{extra}]'")


def _fail(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train GANs with compiled kernels, sample from them and measure them.",
)

Checkpoint = Annotated[Path, typer.Argument(help="A run's folder, for its newest checkpoint, or one checkpoint file.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
_PRESETS, _LOSSES, _PENALTIES = ", ".join(PRESETS), ", ".join(LOSSES), ", ".join(PENALTIES)
_GAMES = ", ".join(GAMES)
_RECIPE = "Recipe (default: the preset's)"
_REPORTS = "Reports and checkpoints"


@app.command(no_args_is_help=True)
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run: new or empty, unless --resume is given.")],
    preset: Annotated[
        str | None, typer.Option(help=f"Networks and recipe: {_PRESETS}. (default: digits-dcgan)")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="'digits' (1,797 real 8x8 images, enlarged if need be), 'textures' (patches of two photographs), "
            "both built in, or a folder of images. (default: digits)"
        ),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Of the images: 64, or height x width as in 64x32. (default: the preset's)")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Of the images, 1 or 3. (default: the preset's)")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, exactly where it stopped.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of every random stream. (default: 0)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N. (default: auto)")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates of each player, from the start of the run.", rich_help_panel=_RECIPE)
    ] = None,
    loss: Annotated[str | None, typer.Option(help=f"The objective: {_LOSSES}.", rich_help_panel=_RECIPE)] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help=f"How the game is played: {_GAMES}; with numbers as in alternating:5 (critic steps) or consensus:10. "
            "(default: alternating)",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    penalty: Annotated[
        str | None,
        typer.Option(
            help=f"The critic's gradient penalties with their weights, or none: {_PENALTIES}; e.g. r1:10,r2:10.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    penalty_every: Annotated[
        int | None,
        typer.Option(help="Steps between two with penalties (lazy regularisation).", rich_help_panel=_RECIPE),
    ] = None,
    path_length: Annotated[
        float | None,
        typer.Option(help="Weight of StyleGAN2's path-length regularisation, 0 for none.", rich_help_panel=_RECIPE),
    ] = None,
    path_length_every: Annotated[
        int | None, typer.Option(help="Steps between two with it.", rich_help_panel=_RECIPE)
    ] = None,
    clip_weights: Annotated[
        float | None,
        typer.Option(
            help="Largest size of the critic's weights, clipped after each of its updates (WGAN: 0.01); 0 for none.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    spectral_norm: Annotated[
        bool | None,
        typer.Option(
            "--spectral-norm/--no-spectral-norm",
            help="Divide the critic's weights by their largest singular values.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update.", rich_help_panel=_RECIPE)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the generator.", rich_help_panel=_RECIPE)] = None,
    lr_critic: Annotated[
        float | None, typer.Option(help="Learning rate of the critic.", rich_help_panel=_RECIPE)
    ] = None,
    beta1: Annotated[float | None, typer.Option(help="Adam's decay of the mean.", rich_help_panel=_RECIPE)] = None,
    beta2: Annotated[float | None, typer.Option(help="Adam's decay of the square.", rich_help_panel=_RECIPE)] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of the averaged generator, per step.", rich_help_panel=_RECIPE)
    ] = None,
    log_every: Annotated[
        int | None, typer.Option(help="Steps between log lines. (default: 50)", rich_help_panel=_REPORTS)
    ] = None,
    sample_every: Annotated[
        int | None, typer.Option(help="Steps between sample grids. (default: 500)", rich_help_panel=_REPORTS)
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. (default: 500)", rich_help_panel=_REPORTS)
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="How many checkpoints stay. (default: 3)", rich_help_panel=_REPORTS)
    ] = None,
) -> None:
    """Train a GAN; Ctrl-C saves and stops.

    Leaves in --out: checkpoints/, samples/ (PNG), log.jsonl, config.json and tensorboard/.

    \b
      fastgan train --preset digits-dcgan --data digits --out runs/digits
      fastgan train --preset digits-dcgan --loss wasserstein --penalty wgan-gp:10 --out runs/wgan
      fastgan train --preset digits-dcgan --loss hinge --spectral-norm --out runs/hinge
      fastgan train --preset digits-resnet --optimizer extragradient --out runs/extra
      fastgan train --out runs/digits --resume --steps 6000
    """
    given = {name: value for name, value in locals().items() if value is not None and name not in ("out", "resume")}
    from fastgan import train as training

    if resume:
        result = training.resume(out, **given)
    else:
        given.setdefault("preset", "digits-dcgan")
        result = training.train(training.TrainConfig.for_preset(out=out, **given))
    _announce(result)


def _announce(result: "TrainResult") -> None:
    typer.echo(f"saved {result.checkpoint}")
    if result.signal is None:
        typer.echo(f"sample from it with: fastgan sample {result.run}")
        return
    typer.echo(f"stopped at step {result.step}; continue with: fastgan train --out {result.run} --resume")
    raise typer.Exit(128 + result.signal)


@app.command(no_args_is_help=True)
def sample(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="The PNG to write; with --interpolate a GIF if it ends in .gif.")] = Path(
        "grid.png"
    ),
    n: Annotated[
        int | None, typer.Option(min=1, max=4096, help="How many images, or of each kind. (default: 64, or 8)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 0,
    psi: Annotated[
        str, typer.Option(help="Truncation of a StyleGAN2: 1 for none, 0 for the mean; several for a row of each.")
    ] = "1",
    mix: Annotated[bool, typer.Option("--mix", help="Cross the coarse styles of n images with the fine of n.")] = False,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="A tour from each of n images to the next: a strip, or a film.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Draw images from the averaged generator and write them as one grid.

    \b
      fastgan sample runs/digits --n 64 --seed 0 --out grid.png
      fastgan sample runs/textures --psi 0.4,0.7,1 --out psi.png
      fastgan sample runs/textures --mix --n 6 --out mixing.png
      fastgan sample runs/textures --interpolate --n 4 --out tour.gif
    """
    from fastgan.train import load_generator, pictures
    from fastgan.train.grid import image_grid, write_png

    psis = _numbers("--psi", psi)
    if (mix or interpolate) and (len(psis) > 1 or (mix and interpolate)):
        raise UserError("--mix and --interpolate each make a picture of their own, at one --psi; expected one of them")
    generator = load_generator(checkpoint, device)
    each, written = n or 8, ""
    try:
        if interpolate:
            film = out.suffix.lower() == ".gif"
            images = pictures.interpolation(generator, each, seed, psis[0], steps=16 if film else 4)
            if film:
                pictures.write_gif(images, out)
            else:
                write_png(image_grid(images, columns=len(images) if len(images) <= 16 else 16), out)
        elif mix:
            write_png(pictures.mixing_grid(generator, each, seed, psis[0]), out)
        elif len(psis) > 1:
            write_png(pictures.truncation_grid(generator, each, seed, psis), out)
        else:
            images = generator.sample(n or 64, seed, psis[0])
            write_png(image_grid(images), out)
            written = f"{len(images)} images to "
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror or error}") from error
    typer.echo(f"wrote {written}{out}")


def _numbers(name: str, text: str) -> list[float]:
    """0.5,0.7 -> [0.5, 0.7]."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{name} is {text!r}, expected a number, or several with commas between them") from None


@app.command(no_args_is_help=True)
def play(
    game: Annotated[str, typer.Argument(help="dirac (the smallest GAN), ring (8 Gaussians) or grid (25).")],
    method: Annotated[
        str, typer.Option(help="A method by name; an unknown one lists them. (default: r1, or r1-r2-relativistic)")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The GIF to write. (default: a window)")] = None,
    loss: Annotated[str | None, typer.Option(help="Another objective, as for `train`.")] = None,
    penalty: Annotated[str | None, typer.Option(help="Other gradient penalties, as for `train`.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Another optimiser of the game, as for `train`.")] = None,
    lr: Annotated[float | None, typer.Option(min=0.0, help="Another learning rate.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the game. (default: the method's)")] = None,
    frames: Annotated[int, typer.Option(min=2, max=1000, help="Pictures in the film.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and draws.")] = 0,
) -> None:
    """Show a small game as it is played, in a window or as a GIF; Ctrl-C ends the film there.

    \b
      fastgan play dirac --method non-saturating-alternating --out circle.gif
      fastgan play ring --method plain --out ring.gif
      fastgan play grid --out grid.gif
    """
    from fastgan.play import play as play_game

    given = {"loss": loss, "penalty": penalty, "optimizer": optimizer, "lr": lr}
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = method or ("r1" if game == "dirac" else "r1-r2-relativistic")
    typer.echo(play_game(game, chosen, out, frames, steps, seed, **changes))
    if out is not None:
        typer.echo(f"wrote {out}")


@app.command(no_args_is_help=True)
def evaluate(
    checkpoint: Checkpoint,
    n: Annotated[int, typer.Option(min=2, max=100_000, help="How many samples; of digits at least 898.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
    device: Device = "auto",
) -> None:
    """Measure a generator, beside what two parts of the real images score against each other.

    Digits at 8x8: Fréchet and kernel distance on a small classifier's features, and classes covered, how evenly.

    The classifier is trained in seconds on the first use and then kept in the user's cache.

    Other images, from 16x16 on: sliced Wasserstein distances between their patches, from fine details to coarse.

    \b
      fastgan evaluate runs/digits --n 2000 --out report.json
    """
    from fastgan.evaluation import measure, show
    from fastgan.train import load_generator

    generator = load_generator(checkpoint, device)
    report = measure(generator, n, seed)
    show(report, f"{checkpoint} at step {generator.step}")
    if out is not None:
        _write_json(report, out, {"checkpoint": str(checkpoint), "step": generator.step, "n": n, "seed": seed})


def _write_json(report: "DigitsReport | PatchReport", out: Path, about: dict[str, Any]) -> None:
    import dataclasses
    import json

    try:
        out.write_text(json.dumps({**about, **dataclasses.asdict(report)}, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {out}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(ctx: typer.Context) -> None:
    """Run the benchmarks of the source folder: `python -m benchmarks`, which takes all arguments."""
    source = Path(__file__).resolve().parent.parent
    if not (source / "benchmarks" / "__main__.py").is_file():
        raise UserError(
            "bench needs fastgan's source folder, where benchmarks/ is; this is an installed package: "
            "clone the repository and pip install -e it"
        )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "benchmarks", *ctx.args]
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


@app.command()
def info(
    cuda: Annotated[bool, typer.Option("--cuda", help="Also look at the GPUs, which starts CUDA.")] = False,
) -> None:
    """Show which backends this installation has, and for each op which of them can run and why not."""
    from fastgan.info import report

    report(cuda)


def main() -> None:
    """The `fastgan` command."""
    app(prog_name="fastgan")
