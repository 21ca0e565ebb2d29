"""The comparisons of whole networks, on small ones: output, and an error for wrong results."""

import pytest
import torch

from benchmarks import accelerate, spectral_norm
from fastgan.nn import SpectralNorm

SMALL = {"small": ((4, 3, 3, 3), (1, 8))}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(spectral_norm, "NETWORKS", SMALL)
    return lambda: spectral_norm.measure_network("small", torch.device("cpu"), 0.05)


def test_weights_of_a_network_are_timed_against_both_of_torchs(small):
    row = small()
    assert row["parameters"] == 116
    for kind in spectral_norm.KINDS:
        for stage in ("forward", "forward+backward"):
            assert 0 < row[f"{kind} {stage}"]["p20_ms"] <= row[f"{kind} {stage}"]["median_ms"]
    best = min(row[f"{kind} forward"]["median_ms"] for kind in ("parametrizations", "hooks"))
    assert row["speed-up forward"] == pytest.approx(best / row["fastgan forward"]["median_ms"])


def test_wrong_weights_are_not_timed(small, monkeypatch):
    forward = SpectralNorm.forward
    monkeypatch.setattr(
        SpectralNorm, "forward", lambda norm, weight: forward(norm, weight) * (1 + weight.detach().float())
    )
    with pytest.raises(SystemExit, match="small: fastgan is off by"):
        small()


def test_the_command_prints_targets_beside_what_it_found(small, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(spectral_norm, "TARGETS", {"cpu": {"small": 4.0}})
    out = tmp_path / "out.json"
    assert spectral_norm.main(["--networks", "small", "--budget", "0.05", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "small" in printed
    assert "4x" in printed
    assert '"speed-up forward+backward"' in out.read_text()


def test_an_accelerated_critic_is_timed_after_its_gradients_agree(capsys):
    assert accelerate.main(["--batch", "2", "--critics", "SNGAN", "--budget", "0.05", "--report"]) == 0
    printed = capsys.readouterr().out
    assert "spectral_norm, one call for the model" in printed
    assert "hinge + R1 by hand" in printed


def test_an_accelerated_critic_with_other_gradients_is_not(monkeypatch):
    monkeypatch.setattr(accelerate, "difference", lambda *a: 1e-3)
    with pytest.raises(SystemExit, match=r"accelerate changes a gradient by 0\.001"):
        accelerate.main(["--batch", "2", "--critics", "SNGAN"])
