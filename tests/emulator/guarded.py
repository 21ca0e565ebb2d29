"""Tensors that show accesses beyond their ends."""

import torch

# Elements on either side: more than a kernel that forgets a bound of one tile would stray.
GUARD = 1 << 15


class Guarded:
    """A contiguous tensor between two zones of 0xff bytes, which are NaN in every floating-point type.

    A kernel that reads a zone computes NaN; one that writes there is found by `check`. Without `values` the
    tensor itself starts as 0xff too, so that `check` finds the elements that a kernel did not write.
    """

    def __init__(self, shape, dtype, values=None):
        count = torch.Size(shape).numel()
        size = torch.empty((), dtype=dtype).element_size()
        self._bytes = torch.full(((count + 2 * GUARD) * size,), 0xFF, dtype=torch.uint8)
        self._inside = slice(GUARD * size, (GUARD + count) * size)
        self.tensor = self._bytes[self._inside].view(dtype).view(shape)
        self._is_output = values is None
        if values is not None:
            self.tensor.copy_(values)

    def check(self):
        """The tensor, after asserting that the zones are untouched and that every element of an output was written."""
        before, after = self._bytes[: self._inside.start], self._bytes[self._inside.stop :]
        assert bool((before == 0xFF).all()), "the kernel wrote before the beginning of a tensor"
        assert bool((after == 0xFF).all()), "the kernel wrote beyond the end of a tensor"
        if self._is_output and self.tensor.numel():
            written = self._bytes[self._inside].view(-1, self.tensor.element_size()) != 0xFF
            assert bool(written.any(dim=1).all()), "the kernel left elements of an output unwritten"
        return self.tensor
