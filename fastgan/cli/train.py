"""The command `fastgan train`: trains a GAN, or resumes a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli.application import app
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.models import PRESETS
from fastgan.penalties import PENALTIES

if TYPE_CHECKING:
    from fastgan.train import TrainResult

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
            help="'digits' (1,797 real 8x8 images, enlarged if need be), 'stacked-digits' (three of them as channels: "
            "1,000 modes), 'textures' (patches of two photographs), all built in, or a folder of images, whose "
            "subfolders are classes. (default: digits)"
        ),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Size of the images: 64, or height x width as in 64x32. (default: the preset's)")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Image channels, 1 or 3. (default: the preset's)")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, exactly where it stopped.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Random seed. (default: 0)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N. (default: auto)")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates of each player, from the start of the run.", rich_help_panel=_RECIPE)
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help=f"The objective: {_LOSSES}; also feature_matching:hinge, label_smoothing:0.9:minimax, fgan:alpha:0.5, "
            "fgan:kl:saturating.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help=f"How the game is played: {_GAMES}; with numbers as in alternating:5 (critic steps) or consensus:1. "
            "(default: alternating)",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    penalty: Annotated[
        str | None,
        typer.Option(
            help=f"The critic's gradient penalties with their weights, or none: {_PENALTIES}; e.g. r1:10,r2:10, or "
            "wgan-gp:10:one-sided.",
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
    pulling_away: Annotated[
        float | None,
        typer.Option(
            help="Weight of EBGAN's pulling-away term, which keeps samples apart (there 0.1), 0 for none.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    clip_weights: Annotated[
        float | None,
        typer.Option(
            help="Largest size of the critic's weights, clipped after each of its updates (WGAN: 0.01); 0 for none.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    critic_norm: Annotated[
        str | None,
        typer.Option(
            help="Replaces batch norm in the preset's critic (dcgan's): none, batch, batch-renorm, virtual-batch or "
            "split-batch. (default: nothing)",
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
    pack: Annotated[
        int | None,
        typer.Option(help="Samples that the critic judges together (PacGAN); 1 for none.", rich_help_panel=_RECIPE),
    ] = None,
    orthogonal: Annotated[
        float | None,
        typer.Option(
            help="Strength of BigGAN's orthogonal regularisation of the generator's weights (there 1e-4), 0 for none.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    unroll: Annotated[
        int | None,
        typer.Option(
            help="Steps of the critic that the generator's gradient goes through (unrolled GAN: 5 to 10), 0 for none.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    instance_noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the noise on the critic's input at first, which falls to 0; 0 for none.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    instance_noise_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps until it is 0. (default: --steps, as the run is started with)", rich_help_panel=_RECIPE
        ),
    ] = None,
    conditional: Annotated[
        str | None,
        typer.Option(
            help="How the classes of the data are used: projection, auxiliary-classifier (its weight as in "
            "auxiliary-classifier:0.5) or semi-supervised. (default: not at all)",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update.", rich_help_panel=_RECIPE)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the generator.", rich_help_panel=_RECIPE)] = None,
    lr_critic: Annotated[
        float | None, typer.Option(help="Learning rate of the critic.", rich_help_panel=_RECIPE)
    ] = None,
    beta1: Annotated[
        float | None, typer.Option(help="Adam's decay of the mean; not for methods of SGD.", rich_help_panel=_RECIPE)
    ] = None,
    beta2: Annotated[
        float | None, typer.Option(help="Adam's decay of the square; likewise.", rich_help_panel=_RECIPE)
    ] = None,
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
        int | None, typer.Option(help="Number of checkpoints to keep. (default: 3)", rich_help_panel=_REPORTS)
    ] = None,
) -> None:
    """Train a GAN; Ctrl-C saves and stops.

    Leaves in --out: checkpoints/, samples/ (PNG), log.jsonl, config.json and tensorboard/.

    \b
      fastgan train --preset digits-dcgan --data digits --out runs/digits
      fastgan train --preset digits-dcgan --loss wasserstein --penalty wgan-gp:10 --out runs/wgan
      fastgan train --preset digits-dcgan --loss hinge --spectral-norm --out runs/hinge
      fastgan train --preset digits-resnet --optimizer extragradient --out runs/extra
      fastgan train --preset digits-resnet --conditional projection --out runs/classes
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
