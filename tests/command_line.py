"""Helpers for tests of the command line: a call through typer's runner, and the form of an error."""

from typer.testing import CliRunner

from fastgan.cli import app

FAST = ["run.batch_size=16", "run.device=cpu"]


def call(*arguments):
    """Exit status, stdout and stderr of `fastgan arguments...`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def assert_refused(result, message):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err == f"error: {message}\n"
