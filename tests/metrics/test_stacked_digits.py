"""Stacked digits: their modes counted by hand, and images that are good, collapsed or noise."""

import math

import pytest
import torch

from fastgan.data import digit_labels, digits, stacked_digits, stacked_labels
from fastgan.errors import UserError
from fastgan.metrics import evaluate_stacked_digits
from fastgan.metrics.classifier import DigitClassifier
from fastgan.metrics.stacked_digits import count_modes, mode_shares


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_every_channel_is_a_digit_and_the_label_reads_them():
    images, labels = stacked_digits(), stacked_labels()
    assert images.pixels.shape == (50_000, 3, 8, 8)
    assert torch.equal(images.labels, labels)
    assert (images.classes[7], images.classes[990]) == ("007", "990")
    assert sorted(set(labels.tolist())) == list(range(1000))
    singles = {
        image.numpy().tobytes(): int(label) for image, label in zip(digits().pixels, digit_labels(), strict=True)
    }
    for i in range(0, 50_000, 997):
        a, b, c = (singles[channel.numpy().tobytes()] for channel in images.pixels[i])
        assert labels[i] == int(f"{a}{b}{c}")


def test_the_digits_are_drawn_independently():
    """Chi-squared of the 100 pairs of two channels against the digits' own shares: 99 degrees of freedom."""
    labels = stacked_labels()
    share = torch.bincount(digit_labels(), minlength=10).double() / len(digit_labels())
    for pair in (labels // 10, labels % 100, 10 * (labels // 100) + labels % 10):
        expected = 50_000 * torch.outer(share, share).flatten()
        statistic = ((torch.bincount(pair, minlength=100) - expected) ** 2 / expected).sum()
        assert 99 - 4 * math.sqrt(2 * 99) < statistic < 99 + 4 * math.sqrt(2 * 99)


@pytest.mark.parametrize(("resolution", "channels"), [(8, 1), (16, 3), ((8, 16), 3)])
def test_other_shapes_are_refused(resolution, channels):
    with pytest.raises(UserError, match=r"'stacked-digits', images of 3x8x8; the run expects .*: give data.channels=3"):
        stacked_digits(resolution, channels)


def test_shares_are_those_of_all_stacks():
    counts = torch.bincount(digit_labels(), minlength=10).tolist()
    shares = mode_shares()
    assert shares.sum().item() == pytest.approx(1, rel=1e-12)
    for mode in (0, 7, 123, 990, 999):
        a, b, c = (int(digit) for digit in f"{mode:03}")
        assert shares[mode].item() == pytest.approx(counts[a] * counts[b] * counts[c] / 1797**3, rel=1e-12)


class Reader(DigitClassifier):
    """Takes an image for the digit that its first pixel says, sure of it by what the second says."""

    def classify(self, images):
        logits = torch.zeros(len(images), 10)
        return logits.scatter(1, images[:, 0, 0, :1].long(), images[:, 0, 0, 1:2])


def stack(*modes, logit=9.0):
    """Images that a Reader takes for these modes; nine more logits are 0."""
    images = torch.zeros(len(modes), 3, 8, 8)
    images[:, :, 0, 0] = torch.tensor([[int(digit) for digit in f"{mode:03}"] for mode in modes]).float()
    images[:, :, 0, 1] = logit
    return images


def test_modes_kl_and_confidence_by_hand():
    found = count_modes(Reader(), stack(123, 123, 123, 999))
    shares = mode_shares()
    assert found.modes == 2
    expected = 0.75 * math.log(0.75 / shares[123]) + 0.25 * math.log(0.25 / shares[999])
    assert found.kl == pytest.approx(expected, rel=1e-12)
    assert found.confident == 1


def test_one_doubtful_digit_makes_an_image_doubtful():
    images = torch.cat([stack(5, 50), stack(500, 7)])
    images[3, 1, 0, 1] = 4.0  # e^4 of e^4 + 9: 0.86
    assert count_modes(Reader(), images).confident == 0.75


def test_more_images_than_are_judged_at_a_time():
    modes = torch.arange(1000).repeat(5).tolist()
    assert count_modes(Reader(), stack(*modes)).modes == 1000


def test_good_collapsed_and_noise():
    real = stacked_digits().pixels[:4000]
    good = evaluate_stacked_digits(real)
    # Of 4,000 balls in 1,000 boxes 982 +- 4 are hit, and the histogram's KL is about 999 / 8000.
    assert 960 < good.samples.modes < 1000
    assert good.samples.kl == pytest.approx(0.135, abs=0.03)
    assert good.data.kl == pytest.approx(good.samples.kl, abs=0.02)
    assert good.samples.confident > 0.95
    assert good.images == 4000

    collapsed = evaluate_stacked_digits(real[:1].expand(4000, -1, -1, -1))
    assert collapsed.samples.modes == 1
    assert collapsed.samples.kl == pytest.approx(math.log(1000), rel=0.05)
    assert collapsed.data == good.data

    noise = evaluate_stacked_digits(torch.randn(1000, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert noise.samples.confident < 0.5


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (5, 1, 8, 8), (5, 3, 16, 16)])
def test_samples_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \[at least 1, 3, 8, 8\]"):
        evaluate_stacked_digits(torch.zeros(shape))
