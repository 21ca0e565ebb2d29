"""Ctrl-C while the command starts: no traceback, whenever it comes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rotation import in_turn

COMMAND = Path(sys.executable).with_name("fastgan")


@pytest.mark.parametrize("seed", in_turn(range(8), "start-up", run=2))
def test_no_traceback(seed, tmp_path):
    """Python itself takes some 0.1 s until the command's first line runs."""
    process = subprocess.Popen(
        [COMMAND, "train", "digits-dcgan", "--out", tmp_path / "run", "run.device=cpu"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever runs the tests may ignore it
    )  # fmt: skip
    time.sleep(random.Random(seed).uniform(0.3, 4))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert err == ""
    assert process.returncode in (130, -signal.SIGINT)


def test_who_ignores_the_signal_goes_on_ignoring_it(tmp_path):
    """As behind nohup, or in the background of a script."""
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    code = f"import signal, subprocess, sys; {ignoring}; sys.exit(subprocess.call(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, COMMAND, "recipes"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "digits-dcgan" in out
