"""Instance noise: the critic sees data and samples through the same Gaussian noise."""

import torch
from torch import Tensor, nn
from torch.types import Device

from fastgan.ops._common.checks import check_count, check_floating, check_number


class InstanceNoise(nn.Module):
    """Adds Gaussian noise in training, so that the distributions of data and of samples overlap.

    Without an overlap the best critic is sure of everything and has no useful gradient. Put it first in the critic, or
    before it, for data and samples alike: what is compared is p * N(0, std^2) with q * N(0, std^2), equal only
    if p and q are. It is annealed, as the paper does, so that the generator finally learns p itself:

        critic = nn.Sequential(InstanceNoise(0.3, steps=10_000), network)
        critic[0].anneal(step)  # once per step: 0.3 at step 0, 0 from step 10,000 on, linearly

    The standard deviation is a buffer: checkpoints keep it, and changing it neither waits for a GPU nor compiles anew.
    Sønderby et al. 2017, arXiv:1610.04490, section 3.1; Arjovsky & Bottou 2017, arXiv:1701.04862, section 3.

    Args:
        std: standard deviation of the noise at first, at least 0, in the units of the input.
        steps: until `anneal` has brought it to 0, at least 1; None if it stays, or is set by `set_std`.
        device, dtype: of the buffer, as in torch.nn.

    Shape: any, floating point -> the same; the input itself in eval mode.

    Raises:
        ValueError: an argument is out of range.
    """

    std: Tensor

    def __init__(
        self,
        std: float = 0.1,
        steps: int | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_number("InstanceNoise", "std", std)
        if steps is not None:
            check_count("InstanceNoise", "steps", steps)
        self.initial_std, self.steps = float(std), steps
        self.register_buffer("std", torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the standard deviation to the initial one."""
        self.std.fill_(self.initial_std)

    def forward(self, x: Tensor) -> Tensor:
        check_floating("InstanceNoise", "x", x)
        # The product first: a 0-d tensor does not widen half precision.
        return x + torch.randn_like(x) * self.std.to(x.dtype) if self.training else x

    def set_std(self, std: float) -> None:
        """Sets the standard deviation, for a schedule of one's own.

        Raises:
            ValueError: it is below 0 or not finite.
        """
        check_number("InstanceNoise", "std", std)
        self.std.fill_(std)

    def anneal(self, step: int) -> None:
        """Sets the standard deviation to std (1 - step / steps), and to 0 from `steps` on.

        Args:
            step: of the training, from 0 on; not how often this is called, so that a resumed run goes on.

        Raises:
            ValueError: the layer was built without `steps`, or step is below 0.
        """
        if self.steps is None:
            raise ValueError("InstanceNoise: steps is None, expected the number of steps that the noise is annealed in")
        if step < 0:
            raise ValueError(f"InstanceNoise: step is {step}, expected at least 0")
        self.std.fill_(self.initial_std * max(0.0, 1 - step / self.steps))

    def extra_repr(self) -> str:
        return f"std={self.initial_std}, steps={self.steps}"
