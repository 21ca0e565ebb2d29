"""The command `fastgan recipes`: lists the recipes, and shows one with a comment for each key."""

import json
from typing import Annotated, Any

import typer

from fastgan.cli.application import app

commands = typer.Typer(help="List the recipes of `fastgan train`, or show one.", invoke_without_command=True)
app.add_typer(commands, name="recipes")


@commands.callback()
def list_recipes(context: typer.Context) -> None:
    """List the recipes of `fastgan train`, or show one with `fastgan recipes show NAME`."""
    if context.invoked_subcommand is None:
        from fastgan import recipes

        for name in recipes.names():
            typer.echo(f"{name:16} {recipes.read(name).about}")


@commands.command()
def show(
    name: Annotated[str, typer.Argument(help="One of `fastgan recipes`, or a YAML file.")],
) -> None:
    """Show a recipe with every key: its value, and what it is. The output is a recipe itself."""
    from fastgan import recipes

    typer.echo("\n".join(commented(recipes.read(name))))


def commented(section: Any, indent: int = 0) -> list[str]:
    """The lines of a section as YAML, each key with what it is."""
    from pydantic import BaseModel

    written, lines, pad = section.model_dump(mode="json"), [], "  " * indent
    own = [key for key in type(section).__annotations__ if key in written]
    for key in dict.fromkeys([*own, *written]):
        value, comment = written[key], _comment(type(section), key)
        inner = getattr(section, key)
        if isinstance(inner, BaseModel):
            lines += ["", f"{pad}{key}:{comment}"] if not indent else [f"{pad}{key}:{comment}"]
            lines += commented(inner, indent + 1)
        else:
            lines.append(f"{pad}{key}: {json.dumps(value, ensure_ascii=False)}{comment}")
    return lines


def _comment(kind: Any, key: str) -> str:
    """What a key is, from the first class that says so."""
    for base in kind.__mro__:
        field = getattr(base, "model_fields", {}).get(key)
        if field is not None and field.description:
            return f"  # {' '.join(field.description.split())}"
    return ""
