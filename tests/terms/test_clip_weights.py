"""Weight clipping against numpy's clip, and what it must leave alone."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.terms import clip_weights_


@pytest.fixture
def critic(generator):
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_parameter_is_clipped_in_place(critic, dtype):
    critic.to(dtype)
    before = [p.detach().clone() for p in critic.parameters()]
    same = [p.data_ptr() for p in critic.parameters()]
    assert clip_weights_(critic, 0.05) is None
    limit = torch.tensor(0.05, dtype=dtype).double().item()  # as the dtype has it
    for p, old in zip(critic.parameters(), before, strict=True):
        expected = np.clip(old.double().numpy(), -limit, limit)
        np.testing.assert_array_equal(p.detach().double().numpy(), expected)
    assert [p.data_ptr() for p in critic.parameters()] == same


def test_the_default_is_the_papers(critic):
    clip_weights_(critic)
    assert max(p.abs().max().item() for p in critic.parameters()) == pytest.approx(0.01)


def test_buffers_gradients_and_small_weights_stay(critic):
    small = copy.deepcopy(critic)
    with torch.no_grad():
        for p in small.parameters():
            p.clamp_(-0.01, 0.01)
            p.grad = torch.ones_like(p)
    before = copy.deepcopy(small.state_dict())
    clip_weights_(small, 0.01)
    for name, value in small.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all((p.grad == 1).all() for p in small.parameters())
    assert small[1].running_var.max() == 1  # which is above the limit


def test_frozen_and_tied_parameters_are_clipped_once_each():
    linear = nn.Linear(3, 3, bias=False)
    tied = nn.Sequential(linear, linear, nn.Linear(3, 1))
    nn.init.constant_(linear.weight, 2.0)
    tied.requires_grad_(False)
    clip_weights_(tied, 0.5)
    assert (linear.weight == 0.5).all()
    assert all(p.abs().max() <= 0.5 for p in tied.parameters())


def test_infinities_are_clipped_and_nan_stays():
    linear = nn.Linear(3, 1, bias=False)
    linear.weight.data.copy_(torch.tensor([[float("inf"), -float("inf"), float("nan")]]))
    clip_weights_(linear, 0.25)
    assert linear.weight[0, :2].tolist() == [0.25, -0.25]
    assert linear.weight[0, 2].isnan()


def test_a_network_without_parameters():
    clip_weights_(nn.ReLU())


@pytest.mark.parametrize("limit", [0, 0.0, -0.01, float("nan"), float("inf"), "0.01", None, True])
def test_limits_that_cannot_be(critic, limit):
    message = f"clip_weights_: limit is {limit!r}, expected a finite number > 0"
    with pytest.raises(ValueError, match=re.escape(message)):
        clip_weights_(critic, limit)
