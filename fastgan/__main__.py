"""Runs the `fastgan` command for `python -m fastgan`."""

from fastgan.cli import main

main()
