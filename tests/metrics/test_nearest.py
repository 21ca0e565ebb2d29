"""Nearest training images against a loop over all, and memorisation: copies are found, new images are not."""

import numpy as np
import pytest
import torch

from fastgan.data import Images, digits
from fastgan.metrics import memorisation, nearest, nearest_neighbours


def by_loops(samples, data, k):
    samples, data = (points.double().flatten(1).numpy() for points in (samples, data))
    distances = np.array([[np.linalg.norm(sample - point) for point in data] for sample in samples])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


@pytest.mark.parametrize("k", [1, 3, 41])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
@pytest.mark.parametrize("chunk", [nearest.CHUNK, 200])
def test_neighbours_are_those_of_a_loop(shape, k, chunk, generator, monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", chunk)
    samples, data = (torch.randn(n, *shape, generator=generator) for n in (7, 41))
    distances, indices = nearest_neighbours(samples, data, k)
    expected, order = by_loops(samples, data, k)
    assert (distances.dtype, indices.dtype) == (torch.float64, torch.int64)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
    np.testing.assert_array_equal(indices, order)


@pytest.mark.parametrize("leading", [(41,), (1, 41)])
def test_images_are_compared_as_they_are_read(leading, generator):
    levels = torch.randint(256, (*leading, 3, 4, 4), generator=generator, dtype=torch.uint8)
    samples = torch.rand(7, 3, 4, 4, generator=generator) * 2 - 1
    distances, indices = nearest_neighbours(samples, Images("noise", levels), 2)
    expected, order = by_loops(samples, levels.view(41, 3, 4, 4).float() / 127.5 - 1, 2)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
    np.testing.assert_array_equal(indices, order)


def test_copies_are_at_exactly_zero(generator):
    """Far from the origin, where a sum of squares less a product would not be."""
    data = 1e4 + torch.randn(300, 64, generator=generator)
    chosen = torch.randperm(300, generator=generator)[:50]
    distances, indices = nearest_neighbours(data[chosen], data, 2)
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 1).all()
    assert torch.equal(indices[:, 0], chosen)


def test_copies_are_told_from_new_images(generator):
    images = digits().pixels
    known, new = images[torch.randperm(1797, generator=generator)].split([899, 898])
    copies = known[torch.randint(899, (500,), generator=generator)]
    assert memorisation(copies, known).samples == memorisation(copies, Images("known", known)).ratio == 0
    assert 0.85 < memorisation(new, known).ratio < 1.15
    assert memorisation(copies + 0.01 * torch.randn(copies.shape, generator=generator), known).ratio < 0.1
    assert memorisation(torch.rand(100, 1, 8, 8, generator=generator) * 2 - 1, known).ratio > 1.5


def test_the_training_images_are_left_out_of_their_own_neighbours(generator):
    known = torch.randn(60, 5, generator=generator)
    apart = np.median(by_loops(known, known, 2)[0][:, 1])
    samples = torch.randn(31, 5, generator=generator)  # odd, so that the median is one of them
    near = np.median(by_loops(samples, known, 1)[0])
    found = memorisation(samples, known)
    assert found.samples == pytest.approx(near, rel=1e-12)
    assert found.data == pytest.approx(apart, rel=0.1)  # the lower of the two in the middle
    assert found.ratio == found.samples / found.data


@pytest.mark.parametrize("call", [nearest_neighbours, memorisation])
def test_wrong_arguments(call):
    name = call.__name__
    with pytest.raises(ValueError, match=rf"{name}: samples has shape \[2, 3\], expected \[at least 1, 4\]"):
        call(torch.zeros(2, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=rf"{name}: samples has shape \[2, 3\], expected \[at least 1, 1, 8, 8\]"):
        call(torch.zeros(2, 3), digits())
    with pytest.raises(TypeError, match=f"{name}: samples is torch.int64, expected a floating-point tensor"):
        call(torch.zeros(2, 3).long(), torch.zeros(5, 3))
    with pytest.raises(TypeError, match=f"{name}: data is torch.uint8, expected a floating-point tensor"):
        call(torch.zeros(2, 3), torch.zeros(5, 3).byte())


def test_too_few():
    with pytest.raises(ValueError, match="nearest_neighbours: data hold 3 points, expected at least 4"):
        nearest_neighbours(torch.zeros(2, 3), torch.zeros(3, 3), 4)
    with pytest.raises(ValueError, match="nearest_neighbours: k is 0, expected an integer of at least 1"):
        nearest_neighbours(torch.zeros(2, 3), torch.zeros(3, 3), 0)
    with pytest.raises(ValueError, match="memorisation: data hold 1 points, expected at least 2"):
        memorisation(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"memorisation: samples has shape \[0, 3\], expected \[at least 1, 3\]"):
        memorisation(torch.zeros(0, 3), torch.zeros(5, 3))
