"""An autoencoder as the critic of the energy-based games: how badly it reconstructs a sample."""

from torch import Tensor, nn

from fastgan.nn.in_place import changes
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.precision import compute_dtype


class ReconstructionError(nn.Module):
    """The mean over a sample's numbers of |A(x) - x|^power, for `fastgan.losses.ebgan` (2) and `began` (1).

    Args:
        autoencoder: A, any module that returns what it was given, or nearly: [B, ...] -> [B, ...]; it must not change
            that in place.
        power: 2 for squares, as in Zhao et al. 2017, arXiv:1609.03126, section 2.3; 1 for absolute values, as in
            Berthelot et al. 2017, arXiv:1703.10717, section 3.1.

    Shape: [B, ...] -> [B], at least 0. Half precision gives float32: a mean of small differences has more digits than
        they have. Further arguments of a call, as labels, go to the autoencoder.

    Raises:
        TypeError: the autoencoder is no module.
        ValueError: power is neither 1 nor 2; in a call, the input is a scalar, its reconstruction has another shape, or
            the autoencoder changed the input.
    """

    def __init__(self, autoencoder: nn.Module, power: int = 2) -> None:
        super().__init__()
        if not isinstance(autoencoder, nn.Module):
            raise TypeError(
                f"ReconstructionError: autoencoder is {type(autoencoder).__name__}, expected a torch.nn.Module"
            )
        if power not in (1, 2):
            raise ValueError(f"ReconstructionError: power is {power!r}, expected 1 or 2")
        self.autoencoder, self.power = autoencoder, power

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        check_floating("ReconstructionError", "x", x)
        before = changes(x)
        reconstruction = self.autoencoder(x, *labels)
        if changes(x) != before:
            raise ValueError(
                "ReconstructionError: x was changed in place by the autoencoder, which is compared with it; expected "
                "inplace=False in its first layer"
            )
        # Broadcasting would make an error of any pair of shapes.
        if x.ndim < 2 or reconstruction.shape != x.shape:
            raise ValueError(
                f"ReconstructionError: x has shape {list(x.shape)} and its reconstruction "
                f"{list(reconstruction.shape)}, expected the same [B, ...]"
            )
        dtype = compute_dtype(x)
        difference = (reconstruction.to(dtype) - x.to(dtype)).flatten(1)
        return (difference.square() if self.power == 2 else difference.abs()).mean(1)

    def extra_repr(self) -> str:
        return f"power={self.power}"
