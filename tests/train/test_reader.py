"""The order in which data are read: every epoch a permutation, by the seed and the position alone."""

import pytest
import torch

from fastgan.data import Images
from fastgan.train.reader import Reader


def numbered(n, name="few", classes=()):
    """Images that are their own numbers."""
    labels = torch.arange(n) % len(classes) if classes else None
    return Images(name, torch.arange(float(n)).view(n, 1, 1, 1), labels, classes)


def indices(batch, name="image"):
    return batch[name].flatten().long()


@pytest.fixture
def reader():
    return lambda seed=3, batch_size=5, n=23: Reader({"image": numbered(n)}, batch_size, seed)


def test_an_epoch_visits_each_sample_at_most_once(reader):
    read = reader()
    epochs = [torch.cat([indices(read.next()) for _ in range(4)]) for _ in range(3)]
    for epoch in epochs:
        assert len(epoch.unique()) == 20  # of 23: the incomplete last batch is left out
        assert set(epoch.tolist()) <= set(range(23))
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("position", [0, 1, 3, 4, 5, 9])
def test_the_position_is_the_whole_state(reader, position):
    read = reader()
    for _ in range(position):
        read.next()
    expected = [indices(read.next()) for _ in range(11)]
    other = reader()
    other.position = position
    assert all(torch.equal(indices(other.next()), batch) for batch in expected)
    assert not torch.equal(indices(reader(seed=4).next()), indices(reader().next()))


def test_reading_all_leaves_the_position(reader):
    read = reader()
    read.next()
    found = torch.cat([indices(batch) for batch in read.epoch()])
    assert found.tolist() == list(range(20))
    assert read.position == 1


def test_several_sources_are_read_side_by_side():
    """Each in an order of its own, with its own number of batches in an epoch."""
    read = Reader({"a": numbered(9), "b": numbered(23, classes=("x", "y"))}, 3, seed=1)
    batches = [read.next() for _ in range(7)]
    assert batches[0].keys() == {"a", "b", "b_label"}
    of_a, of_b = (torch.cat([indices(batch, name) for batch in batches]) for name in "ab")
    assert sorted(of_a[:9].tolist()) == sorted(of_a[9:18].tolist()) == list(range(9))
    assert len(of_b.unique()) == 21
    assert all(torch.equal(batch["b_label"], indices(batch, "b") % 2) for batch in batches)
    assert len(list(read.epoch())) == 3
    alone = Reader({"image": numbered(23, classes=("x", "y"))}, 3, seed=1)
    assert alone.next().keys() == {"image", "label"}


def test_what_pictures_are_of_is_spread_evenly(reader):
    read = reader()
    assert indices(read.first(5)).tolist() == [0, 4, 9, 13, 18]
    assert indices(read.first(99)).tolist() == list(range(23))


@pytest.mark.parametrize("batch_size", [0, -1, 24])
def test_batch_size_must_fit(reader, batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}, expected 1 to 23"):
        reader(batch_size=batch_size)
