"""The typer application that the commands are registered with, and arguments that several of them have."""

from pathlib import Path
from typing import Annotated, Any

from fastgan.errors import UserError

try:
    import rich  # noqa: F401 (`evaluate` and `info` print with it)
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError as error:
    raise SystemExit(f"fastgan's command line needs {error.name}: pip install 'fastgan[cli]'") from error

_EXTRAS = {"safetensors", "PIL", "sklearn", "scipy", "tensorboard", "torchmetrics", "matplotlib", "pydantic", "yaml"}


class _Commands(TyperGroup):
    """The commands; a `UserError` becomes one line on stderr and exit status 2."""

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
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import fastgan

        typer.echo(fastgan.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Train GANs with compiled kernels, sample from them and measure them."""


Checkpoint = Annotated[Path, typer.Argument(help="A run's folder, for its newest checkpoint, or one checkpoint file.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
TaskFunction = Annotated[
    str | None,
    typer.Option("--task", help="package.module:function of a run that was started with --task: imported and run."),
]
