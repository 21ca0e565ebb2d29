"""Virtual batch normalisation: every sample is normalised by a fixed reference batch and itself, not by its batch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from fastgan.ops._common.checks import check_count, check_floating, check_number
from fastgan.ops._common.precision import compute_dtype


class _Statistics(NamedTuple):
    """Statistics of a layer's input over the reference batch: mean, biased variance [C], and number of samples []."""

    mean: Tensor
    var: Tensor
    size: Tensor


class VirtualBatchNorm(nn.Module):
    """Normalises each sample by the statistics of a reference batch of n samples joined by the sample itself.

        m = n / (n + 1) m_ref + 1 / (n + 1) m_x                         means over samples and positions
        v = n / (n + 1) E_ref x² + 1 / (n + 1) E_x x² - m²              so that both count as one batch of n + 1
        y = (x - m) / sqrt(v + eps) · weight + bias

    What batch norm does to a sample depends on the others of its batch; this does not, in training as in evaluation:
    there are no moving averages. `set_reference_batch` runs a network on the reference batch once; `reference_batch`
    does it so that gradients flow through these statistics, as in the paper. The reference batch itself is normalised
    by its own statistics, so that each layer sees what it would see behind batch norm. Derivatives of any order are
    autograd's. Half precision is computed in float32.

    Salimans et al. 2016, arXiv:1606.03498, section 3.4; n / (n + 1) and 1 / (n + 1) are those of the authors' code.

    Args:
        num_features: C.
        eps: added to the variance, above 0.
        affine: whether there are a weight and a bias, [C], at first 1 and 0.
        device, dtype: of the parameters and buffers, as in torch.nn.

    Buffers:
        reference_mean, reference_var: [C], NaN before there is a reference batch; reference_size: its n, 0 before.

    Shape: [B, C], [B, C, L], [B, C, H, W] or more -> the same, of the same dtype.

    Raises:
        ValueError: num_features is below 1, or eps not above 0; in forward, x has another number of channels.
        RuntimeError: in forward, there is no reference batch yet.
    """

    reference_mean: Tensor
    reference_var: Tensor
    reference_size: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("VirtualBatchNorm", "num_features", num_features)
        check_number("VirtualBatchNorm", "eps", eps, above=True)
        self.num_features, self.eps, self.affine = num_features, eps, affine
        per_channel = partial(torch.empty, num_features, device=device, dtype=dtype)
        self.weight = nn.Parameter(per_channel()) if affine else None
        self.bias = nn.Parameter(per_channel()) if affine else None
        self.register_buffer("reference_mean", per_channel())
        self.register_buffer("reference_var", per_channel())
        self.register_buffer("reference_size", torch.empty((), dtype=torch.long, device=device))
        self._measuring = False  # whether the next input is the reference batch
        self._live: _Statistics | None = None  # the reference batch's with their graph, inside `reference_batch`
        self._known = False  # that there is a reference batch: asking the buffer each time would wait for the GPU
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets weight 1 and bias 0, and forgets the reference batch."""
        if self.weight is not None and self.bias is not None:
            self.weight.fill_(1)
            self.bias.zero_()
        self.reference_mean.fill_(torch.nan)
        self.reference_var.fill_(torch.nan)
        self.reference_size.zero_()
        self._known = False

    def forward(self, x: Tensor) -> Tensor:
        check_floating("VirtualBatchNorm", "x", x)
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"VirtualBatchNorm: x has shape {list(x.shape)}, expected [batch, {self.num_features}, ...]"
            )
        return self._measure(x) if self._measuring else self._normalise(x, self._live or self._stored())

    def _measure(self, x: Tensor) -> Tensor:
        """Normalises the reference batch by its own statistics, and stores them."""
        if self._live is not None:
            raise RuntimeError(
                "VirtualBatchNorm: the reference batch came twice, expected a layer that the network calls once: it "
                "can only keep the statistics of one place"
            )
        if x.numel() == 0:
            raise ValueError(f"VirtualBatchNorm: the reference batch has shape {list(x.shape)}, expected one not empty")
        y = F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        var, mean = torch.var_mean(x.to(compute_dtype(x)), [0, *range(2, x.ndim)], correction=0)
        self._live = _Statistics(mean, var, torch.tensor(x.shape[0], device=x.device))
        for name, value in self._live._asdict().items():
            getattr(self, f"reference_{name}").copy_(value.detach())
        self._known = True
        return y

    def _stored(self) -> _Statistics:
        if not self._known:
            if not self.reference_size:
                raise RuntimeError(
                    "VirtualBatchNorm: there is no reference batch, expected set_reference_batch(network, batch) before"
                )
            self._known = True
        return _Statistics(self.reference_mean, self.reference_var, self.reference_size)

    def _normalise(self, x: Tensor, reference: _Statistics) -> Tensor:
        if x.numel() == 0:
            return F.batch_norm(x, self.reference_mean, self.reference_var, self.weight, self.bias)
        exact = x.to(compute_dtype(x))
        if x.ndim == 2:  # one position: its mean is itself, its variance nothing
            own_mean, own_var = exact, None
        else:
            own_var, own_mean = torch.var_mean(exact, [*range(2, x.ndim)], correction=0)
        new = (reference.size + 1).to(exact).reciprocal()
        old = 1 - new
        mean = old * reference.mean + new * own_mean
        # The variance of two groups together, from their own and the distance of their means: nothing cancels.
        var = old * reference.var + old * new * (own_mean - reference.mean).square()
        if own_var is not None:
            var = var + new * own_var
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        shape = (*scale.shape, *[1] * (x.ndim - 2))
        return torch.addcmul(shift.view(shape), exact, scale.view(shape)).to(x.dtype)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known = False  # what was loaded may be of a layer without a reference batch

    def __getstate__(self) -> dict[str, Any]:
        """State without the graph of the statistics, which cannot be copied: a copy is outside of `reference_batch`."""
        return {**vars(self), "_measuring": False, "_live": None}

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"


def set_reference_batch(network: nn.Module, *inputs: Any) -> None:
    """Runs the network on the reference batch without gradients, and keeps each layer's statistics in its buffers.

    They are those of the weights as they are now: call it again with the same batch after the weights have changed, or
    train inside `reference_batch`.

    Args:
        network: with at least one `VirtualBatchNorm`; each is called once. Its other layers are in their present mode.
        inputs: what the network is called with: the reference batch, chosen once, and further arguments if any.

    Raises:
        ValueError: the network has no such layer, or the reference batch is empty.
        RuntimeError: a layer is called more than once.

    Salimans et al. 2016, arXiv:1606.03498, section 3.4.
    """
    with torch.no_grad(), _measured("set_reference_batch", network, inputs):
        pass


def reference_batch(network: nn.Module, *inputs: Any) -> AbstractContextManager[None]:
    """Runs the network on the reference batch; inside, gradients flow through its statistics too, as in the paper.

        with reference_batch(generator, reference):
            loss = nonsaturating.generator(critic(generator(z)))
        loss.backward()

    This is the gradient of what training computes: normalised layers do not care for the length of their weights, and
    with the statistics as constants they would grow. Afterwards the buffers hold these statistics. Several losses
    inside share the graph of the reference pass: add them up before `backward()`.

    Args and errors as `set_reference_batch`.

    Salimans et al. 2016, arXiv:1606.03498, section 3.4.
    """
    return _measured("reference_batch", network, inputs)


@contextmanager
def _measured(owner: str, network: nn.Module, inputs: tuple[Any, ...]) -> Iterator[None]:
    layers = [layer for layer in network.modules() if isinstance(layer, VirtualBatchNorm)]
    if not layers:
        raise ValueError(f"{owner}: network has no VirtualBatchNorm, expected at least one")
    for layer in layers:
        layer._measuring, layer._live = True, None
    try:
        try:
            network(*inputs)
        finally:
            for layer in layers:
                layer._measuring = False
        yield
    finally:
        for layer in layers:
            layer._live = None
