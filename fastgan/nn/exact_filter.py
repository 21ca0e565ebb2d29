"""The base of layers with a resampling filter, which stays float32 whatever the dtype of the layer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.types import Device


class ExactFilter(nn.Module):
    """A module whose buffer named by `filter_name` is a filter of `fastgan.ops.setup_filter`, or None.

    It moves from device to device with the module but stays in float32, which is what the ops take for images of any
    dtype: `.half()` would round the taps, so that they no longer add up to 1, and `.float()` would not bring them back.
    """

    filter_name = "resample_filter"

    def register_filter(self, taps: Tensor | None, device: Device) -> None:
        """Makes the buffer.

        Args:
            taps: on the CPU; None for a layer that keeps the resolution.
            device: where the buffer shall be; PyTorch's default device if None.
        """
        self._taps = None if taps is None else taps.tolist()  # outlives the meta device and `to_empty`
        place = torch.get_default_device() if device is None else device
        self.register_buffer(self.filter_name, None if taps is None else taps.to(place))

    def reset_filter(self) -> None:
        """Sets the filter to that of the constructor."""
        if self._taps is not None:
            getattr(self, self.filter_name).copy_(torch.tensor(self._taps, dtype=torch.float32))

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> nn.Module:
        exact = getattr(self, self.filter_name)
        super()._apply(fn, *args, **kwargs)
        converted = getattr(self, self.filter_name)
        if exact is not None and converted.dtype != exact.dtype:
            setattr(self, self.filter_name, exact.to(converted.device))
        return self
