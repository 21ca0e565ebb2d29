"""The digits' judge and report: deterministic, cached, and able to tell good from bad."""

import pytest
import torch

from fastgan.cli.measurement_tables import doubts
from fastgan.data import digits
from fastgan.metrics import digit_judge, evaluate_digits
from fastgan.metrics.classifier import train_classifier


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of the module's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "fastgan"


def test_judge_is_good_cached_and_leaves_the_global_generator(cache, monkeypatch):
    before = torch.get_rng_state()
    judge = digit_judge()
    assert torch.equal(torch.get_rng_state(), before)
    assert judge.test_accuracy > 0.95
    assert judge.network(digits().pixels).square().mean().item() == pytest.approx(1, rel=1e-5)

    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr("fastgan.metrics.classifier.train_classifier", lambda: pytest.fail("trained again"))
        again = digit_judge()
    assert again.test_accuracy == judge.test_accuracy
    for name, value in judge.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


def test_a_damaged_cache_is_made_again(cache, tmp_path, monkeypatch):
    digit_judge()
    (file,) = cache.iterdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "fastgan").mkdir()
    damaged = tmp_path / "fastgan" / file.name
    damaged.write_bytes(file.read_bytes()[:-100])
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 1)
    assert digit_judge().test_accuracy > 0.5
    assert damaged.stat().st_size == file.stat().st_size
    assert [path.name for path in damaged.parent.iterdir()] == [file.name]


def test_judge_without_a_writable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 1)
    assert digit_judge().test_accuracy > 0.5


def test_training_does_not_depend_on_the_global_generator(monkeypatch):
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 1)
    first, _ = train_classifier()
    torch.rand(1)
    second, _ = train_classifier()
    assert torch.equal(first.head.weight, second.head.weight)


def test_report_tells_real_digits_from_noise_and_from_collapse():
    real = digits().pixels
    good = evaluate_digits(real[torch.randperm(1797)[:1000]])
    noise = evaluate_digits(torch.rand(1000, 1, 8, 8) * 2 - 1)
    one_image = evaluate_digits(real[:1].expand(1000, -1, -1, -1))

    assert good.samples.covered == good.data.covered == 10
    assert good.samples.kl < 0.02
    assert good.all.frechet < good.floor.frechet  # the samples are among the data
    assert abs(good.floor.kernel) < good.floor.kernel_error
    assert abs(good.matched.frechet - good.floor.frechet) < 3 * good.floor.frechet_std
    assert noise.matched.frechet > 20 * noise.floor.frechet
    assert noise.all.kernel > 10 * good.floor.kernel_error
    assert one_image.samples.covered == 1
    assert one_image.samples.kl > 2
    assert good.floor == noise.floor

    assert doubts(good) == []
    assert doubts(noise)[0].startswith(f"Most samples are no digits: {noise.scores.precision:.1%} lie where")
    assert doubts(one_image)[0].startswith(
        f"The samples are much alike: {one_image.scores.recall:.1%} of the real digits"
    )

    assert good.data_scores == noise.data_scores
    assert good.data_scores.inception_score > 9.5  # of 10
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(good.scores, name) > getattr(good.data_scores, name) - 0.1
    assert good.data_scores.coverage == pytest.approx(1 - 2**-5, abs=0.02)
    assert noise.scores.precision < 0.2
    assert noise.scores.coverage < 0.2
    assert noise.scores.inception_score < 5
    assert one_image.scores.precision == pytest.approx(1)
    assert one_image.scores.recall < 0.01
    assert one_image.scores.coverage < 0.02
    assert one_image.scores.inception_score == pytest.approx(1)


@pytest.mark.parametrize("shape", [(897, 1, 8, 8), (1000, 3, 8, 8), (1000, 1, 16, 16)])
def test_wrong_samples(shape):
    with pytest.raises(ValueError, match=r"samples has shape .*, expected \[at least 898, 1, 8, 8\]"):
        evaluate_digits(torch.zeros(shape))
