"""The command `fastgan bench`: runs the benchmarks."""

import os
import subprocess
import sys
from pathlib import Path

import typer

from fastgan.cli.application import app
from fastgan.errors import UserError


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(ctx: typer.Context) -> None:
    """Run the benchmarks of the source folder: `python -m benchmarks`, which takes all arguments."""
    source = Path(__file__).resolve().parents[2]
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
