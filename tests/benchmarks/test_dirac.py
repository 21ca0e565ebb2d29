"""DiracGAN's table and picture."""

import numpy as np

from benchmarks import dirac


def test_the_table_and_the_picture(tmp_path):
    t = np.linspace(0, 60, 501)[:, None]
    circle = np.hstack([np.cos(t), np.sin(t)])
    paths = {"round": circle, "inwards, slowly": np.exp(-t / 4) * circle}
    lines = dirac.table(paths).splitlines()
    assert lines[2] == "| round | circles | 1 |"
    assert lines[3] == "| inwards, slowly | converges | 3.1e-07 |"
    dirac.draw(paths, tmp_path / "dirac.png")
    assert (tmp_path / "dirac.png").stat().st_size > 10_000
