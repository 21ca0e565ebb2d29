"""`fastgan info`."""

from typing import Annotated

import typer

from fastgan.cli.application import app


@app.command()
def info(
    cuda: Annotated[bool, typer.Option("--cuda", help="Also look at the GPUs, which starts CUDA.")] = False,
) -> None:
    """Show which backends this installation has, and for each op which of them can run and why not."""
    from fastgan.info import report

    report(cuda)
