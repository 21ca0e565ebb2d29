"""`fastgan train | recipes | sample | evaluate | features | play | bench | info`.

Each command imports what it needs when it runs, so that `fastgan info` and the help need typer and rich, but none of
the training libraries.
"""

from fastgan.cli.application import app

from fastgan.cli import train, recipes, sample, play, evaluate, features, bench, info  # isort: skip  # in the order of the help


def main() -> None:
    """The `fastgan` command."""
    app(prog_name="fastgan")


__all__ = ["app", "bench", "evaluate", "features", "info", "main", "play", "recipes", "sample", "train"]
