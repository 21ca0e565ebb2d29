"""A critic, a batch for it, and the two methods."""

import pytest
import torch
from torch import Tensor, nn

from tests.penalties.common import METHODS
from tests.penalties.critics import CRITICS, batch, build


@pytest.fixture(params=METHODS)
def method(request) -> str:
    return request.param


@pytest.fixture
def critic(seed) -> nn.Module:
    torch.manual_seed(seed)
    return build(CRITICS["dcgan"])


@pytest.fixture
def samples(critic) -> tuple[Tensor, Tensor]:
    return batch(CRITICS["dcgan"], 4)[:2]


@pytest.fixture
def fresh_dynamo():
    """Nothing compiled before, nothing left behind."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
