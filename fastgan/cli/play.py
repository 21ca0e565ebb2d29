"""The command `fastgan play`: films of small games."""

from pathlib import Path
from typing import Annotated

import typer

from fastgan.cli.application import app


@app.command(no_args_is_help=True)
def play(
    toy: Annotated[str, typer.Argument(help="dirac (the smallest GAN), ring (8 Gaussians) or grid (25).")],
    method: Annotated[
        str, typer.Option(help="A method by name; an unknown one lists them. (default: r1, or r1-r2-relativistic)")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The GIF to write. (default: a window)")] = None,
    loss: Annotated[str | None, typer.Option(help="Another objective, as task.loss of `train`.")] = None,
    penalty: Annotated[str | None, typer.Option(help="Other gradient penalties, as task.penalty of `train`.")] = None,
    game: Annotated[str | None, typer.Option(help="Another optimiser of the game, as game.kind of `train`.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Another learning rate; of the generator, where the players have two.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the game. (default: the method's)")] = None,
    frames: Annotated[int, typer.Option(help="Number of pictures, 2 to 1000.")] = 60,
    seed: Annotated[int, typer.Option(help="Random seed of weights and draws.")] = 0,
) -> None:
    """Show a small game as it is played, in a window or as a GIF; Ctrl-C ends the film there.

    \b
      fastgan play dirac --method non-saturating-alternating --out circle.gif
      fastgan play ring --method plain --out ring.gif
      fastgan play grid --out grid.gif
    """
    from fastgan.cli.films import play_toy

    given = {"loss": loss, "penalty": penalty, "game": game, "lr": lr}
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = method or ("r1" if toy == "dirac" else "r1-r2-relativistic")
    typer.echo(play_toy(toy, chosen, out, frames, steps, seed, **changes))
    if out is not None:
        typer.echo(f"wrote {out}")
