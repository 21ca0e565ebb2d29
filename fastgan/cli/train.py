"""The command `fastgan train`: carries out a recipe, or goes on with a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli.application import app
from fastgan.errors import UserError

if TYPE_CHECKING:
    from fastgan.train.session import Outcome


@app.command(no_args_is_help=True)
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run: new or empty, unless --resume is given.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [SECTION.KEY=VALUE]...",
            help="One of `fastgan recipes`, then what is to be different.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="A built-in set (digits, stacked-digits, textures, ...) or a folder of images: data.image."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A recipe of your own, a YAML file, instead of RECIPE.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="package.module:function that makes a task of your own: it is imported and run."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, exactly where it stopped.")
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="With --resume: go on from this checkpoint; what is newer is set aside."),
    ] = None,
) -> None:
    """Train what a recipe says; Ctrl-C saves and stops.

    Leaves in --out: checkpoints/, samples/ (PNG), log.jsonl, seconds.jsonl, recipe.yaml and tensorboard/.

    \b
      fastgan train digits-dcgan --out runs/digits run.steps=2000
      fastgan train digits-resnet --out runs/hinge task.loss=hinge game.kind=extragradient
      fastgan train cycle-gan-small --out runs/cycle data.a=horses/ data.b=zebras/
      fastgan train --resume --out runs/digits run.steps=6000
    """
    from fastgan import recipes

    recipe, changes = _named(words or [], config)
    # Not by YAML, in which the folder 2024 is a number.
    given = {} if data is None else {"image": data}
    if from_ is not None and not resume:
        raise UserError(f"--from is {str(from_)!r}, expected --resume beside it")
    if resume:
        if recipe is not None:
            raise UserError(f"RECIPE is {str(recipe)!r}, expected none beside --resume: the run has its own")
        chosen = recipes.kept_recipe(out, changes, task, given)
    elif task is not None:
        if recipe is not None:
            raise UserError(f"RECIPE is {str(recipe)!r}, expected none beside --task")
        chosen = recipes.resolved({"task": {"kind": "python", "function": task}, "run": {}}, changes, given)
    elif recipe is None:
        raise UserError(f"RECIPE is missing, expected one of {', '.join(recipes.names())}, --config or --task")
    else:
        chosen = recipes.read(recipe, changes, given)
    if chosen.task.kind == "python":
        typer.echo(f"importing and running {chosen.task.function}")
    _announce(recipes.start(chosen, out, resume=resume, checkpoint=from_))


def _named(words: list[str], config: Path | None) -> tuple[str | Path | None, list[str]]:
    """The recipe that the words begin with, if any, and the changes."""
    if words and "=" not in words[0]:
        if config is not None:
            raise UserError(f"RECIPE is {words[0]!r}, expected none beside --config")
        return words[0], words[1:]
    if config is not None and config.suffix not in (".yaml", ".yml"):
        raise UserError(f"--config is {str(config)!r}, expected a file that ends in .yaml")
    return config, words


def _announce(outcome: "Outcome") -> None:
    typer.echo(f"saved {outcome.checkpoint}")
    if outcome.signal is None:
        typer.echo(f"sample from it with: fastgan sample {outcome.folder}")
        return
    typer.echo(f"stopped at step {outcome.run.step}; continue with: fastgan train --resume --out {outcome.folder}")
    raise typer.Exit(128 + outcome.signal)
