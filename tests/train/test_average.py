"""The moving average against its closed form."""

import pytest
import torch
from torch import nn

from fastgan.train.average import MovingAverage


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


def test_weighted_sum_of_all_past_weights(generator):
    """w_T = sum_t x_t (1 - d_t) prod_{s > t} d_s + w_0 prod d_s, with d_t = min(decay, (1 + t) / (10 + t))."""
    decay, steps = 0.9, 120
    values = torch.randn(steps + 1, 2, dtype=torch.float64, generator=generator)
    source = Scalar()
    source.w.data.copy_(values[0, 0])
    source.running.copy_(values[0, 1])
    average = MovingAverage(source, decay)
    for t in range(1, steps + 1):
        source.w.data.copy_(values[t, 0])
        source.running.copy_(values[t, 1])
        source.count.add_(1)
        average.update(source, t)

    decays = torch.tensor([1.0] + [min(decay, (1 + t) / (10 + t)) for t in range(1, steps + 1)], dtype=torch.float64)
    after = decays.flip(0).cumprod(0).flip(0).roll(-1)  # the product of the decays of all later steps
    after[-1] = 1
    share = after * torch.cat([torch.ones(1), 1 - decays[1:]])
    assert share.sum().item() == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(average.network.w.data, share @ values[:, 0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(average.network.running, share @ values[:, 1], rtol=1e-12, atol=1e-15)
    assert average.network.count == steps


def test_warm_up_forgets_the_initial_weights():
    source = Scalar()
    source.w.data.fill_(100.0)
    average = MovingAverage(source, 0.999)
    source.w.data.zero_()
    for t in range(1, 101):
        average.update(source, t)
    assert abs(average.network.w.item()) < 1e-9  # 90 would be left without the warm-up


def test_the_copy_neither_trains_nor_changes_the_source():
    source = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(source, 0.9)
    assert source.training
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    before = {name: value.clone() for name, value in source.state_dict().items()}
    average.update(source, 1)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
