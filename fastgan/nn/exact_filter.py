"""What layers with a resampling filter have in common: the filter's taps stay what they were given as."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ExactFilter(nn.Module):
    """A module whose buffer named by `filter_name` is a filter of `fastgan.ops.setup_filter`, or None.

    It moves from device to device with the module but stays in float32, which is what the ops take for images of any
    dtype: `.half()` would round the taps, so that they no longer add up to 1, and `.float()` would not bring them back.
    """

    filter_name = "resample_filter"

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> nn.Module:
        exact = getattr(self, self.filter_name)
        super()._apply(fn, *args, **kwargs)
        converted = getattr(self, self.filter_name)
        if exact is not None and converted.dtype != exact.dtype:
            setattr(self, self.filter_name, exact.to(converted.device))
        return self
