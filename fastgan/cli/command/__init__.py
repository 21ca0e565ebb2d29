"""The first lines of the `fastgan` command, installed as a package of its own: they run before PyTorch is imported."""

import signal


def main() -> None:
    """Runs the command; while it is being loaded, for a second or two, Ctrl-C ends it as it ends any program."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # otherwise whoever called ignores it
    if usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fastgan.cli import main

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
