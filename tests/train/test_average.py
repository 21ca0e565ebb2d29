"""The moving averages against their closed form."""

import pytest
import torch
from torch import nn

from fastgan.tasks import Task
from fastgan.train.average import move_averages


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


class Averaged(Task):
    """A task of one averaged network and another that is not."""

    def __init__(self, source):
        super().__init__({"critic": nn.Linear(1, 1)}, {"net": source, "other": nn.Linear(1, 1)}, averaged=["net"])

    def draw(self, data, random): ...
    def critic_parts(self, batch, now): ...
    def generator_parts(self, batch, now): ...
    def sample(self, n, seed=0, given=None, **options): ...
    def picture(self, given, seed=0): ...


def test_weighted_sum_of_all_past_weights(generator):
    """w_T = sum_t x_t (1 - d_t) prod_{s > t} d_s + w_0 prod d_s, with d_t = min(decay, (1 + t) / (10 + t))."""
    decay, steps = 0.9, 120
    values = torch.randn(steps + 1, 2, dtype=torch.float64, generator=generator)
    source = Scalar()
    source.w.data.copy_(values[0, 0])
    source.running.copy_(values[0, 1])
    task = Averaged(source)
    for t in range(1, steps + 1):
        source.w.data.copy_(values[t, 0])
        source.running.copy_(values[t, 1])
        source.count.add_(1)
        move_averages(task, decay, t)

    average = task.averages["net"]
    decays = torch.tensor([1.0] + [min(decay, (1 + t) / (10 + t)) for t in range(1, steps + 1)], dtype=torch.float64)
    after = decays.flip(0).cumprod(0).flip(0).roll(-1)  # the product of the decays of all later steps
    after[-1] = 1
    share = after * torch.cat([torch.ones(1), 1 - decays[1:]])
    assert share.sum().item() == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(average.w.data, share @ values[:, 0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(average.running, share @ values[:, 1], rtol=1e-12, atol=1e-15)
    assert average.count == steps


def test_warm_up_forgets_the_initial_weights():
    source = Scalar()
    source.w.data.fill_(100.0)
    task = Averaged(source)
    source.w.data.zero_()
    for t in range(1, 101):
        move_averages(task, 0.999, t)
    assert abs(task.averages["net"].w.item()) < 1e-9  # 90 would be left without the warm-up


def test_the_copy_neither_trains_nor_changes_the_source():
    source = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    task = Averaged(source)
    average = task.train().averages["net"]
    assert list(task.averages) == ["net"]
    assert source.training
    assert not any(module.training for module in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    before = {name: value.clone() for name, value in source.state_dict().items()}
    move_averages(task, 0.9, 1)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
