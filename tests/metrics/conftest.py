"""Metrics of small networks, on one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small run no faster on two threads, and far slower where other processes want the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
