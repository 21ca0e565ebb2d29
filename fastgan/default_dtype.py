"""A context manager for float32 as PyTorch's default dtype, which the user's program may have changed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_by_default() -> Iterator[None]:
    """A context in which tensors made without a dtype are float32, for the networks that fastgan itself trains.

    The default is the process's, not the thread's, so that this is for making a network, not for running it.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
