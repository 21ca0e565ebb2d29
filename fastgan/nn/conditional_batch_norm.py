"""Conditional batch normalisation: each class has a gain and a bias of its own."""

import torch
from torch import Tensor, nn
from torch.types import Device

from fastgan.ops._common.checks import check_count, check_labels, check_shape


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias are looked up by class, or are linear in an embedding of it.

        y = batch_norm(x) · (1 + gain(c)) + bias(c)

    With `num_classes` gain and bias are tables, [num_classes, C], at first zero (de Vries et al. 2017,
    arXiv:1707.00683; Miyato and Koyama 2018, arXiv:1802.05637, in the generator). With `embedding_dim` they
    are linear layers without a bias on a vector for each sample, such as a class embedding shared by all layers beside
    a piece of z (Brock et al. 2019, arXiv:1809.11096, section 3 and appendix B). Their weights start at N(0, 0.02²):
    the gain is 1 on average, and a spectral norm of them exists, which it does not for zeros.

    Args:
        num_features: C.
        num_classes: of labels.
        embedding_dim: of vectors; exactly one of the two is given.
        eps, momentum: as in torch.nn.BatchNorm2d, which is the child `norm` and holds the running statistics.
        device, dtype: of the parameters and buffers, as in torch.nn.

    Shape: x [B, C, H, W] and labels [B], integers, or vectors [B, embedding_dim] -> [B, C, H, W], in the dtype of x.

    Raises:
        TypeError: in forward, x or the vectors are no floating-point tensors, or the labels no integers.
        ValueError: not exactly one of num_classes and embedding_dim is given, a size is below 1; in forward, a shape is
            another.
        IndexError: in forward on a CPU, there is no such class.
    """

    gain: nn.Embedding | nn.Linear
    bias: nn.Embedding | nn.Linear

    def __init__(
        self,
        num_features: int,
        num_classes: int | None = None,
        embedding_dim: int | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("ConditionalBatchNorm2d", "num_features", num_features)
        if (num_classes is None) == (embedding_dim is None):
            raise ValueError(
                f"ConditionalBatchNorm2d: num_classes is {num_classes!r} and embedding_dim {embedding_dim!r}, expected "
                "exactly one of them: labels are looked up, vectors are multiplied"
            )
        self.num_features, self.num_classes, self.embedding_dim = num_features, num_classes, embedding_dim
        self.norm = nn.BatchNorm2d(num_features, eps, momentum, affine=False, device=device, dtype=dtype)
        if num_classes is not None:
            check_count("ConditionalBatchNorm2d", "num_classes", num_classes)
            self.gain, self.bias = (
                nn.Embedding(num_classes, num_features, device=device, dtype=dtype) for _ in range(2)
            )
        elif embedding_dim is not None:
            check_count("ConditionalBatchNorm2d", "embedding_dim", embedding_dim)
            self.gain, self.bias = (
                nn.Linear(embedding_dim, num_features, bias=False, device=device, dtype=dtype) for _ in range(2)
            )
        self._initialise()

    def reset_parameters(self) -> None:
        """Sets the initial gains and biases, and restarts the running statistics.

        The children's own `reset_parameters` would make them an ordinary embedding or linear layer.
        """
        for child in (self.norm, self.gain, self.bias):
            child.reset_parameters()
        self._initialise()

    def _initialise(self) -> None:
        for child in (self.gain, self.bias):
            if self.num_classes is not None:
                nn.init.zeros_(child.weight)
            else:
                nn.init.normal_(child.weight, std=0.02)

    def forward(
        self,
        x: Tensor,  # [B, C, H, W]
        c: Tensor,  # [B] or [B, embedding_dim]
    ) -> Tensor:  # [B, C, H, W]
        self._check(x, c)
        gain, bias = 1 + self.gain(c), self.bias(c)
        # One pass for both; gain and bias may be float32 beside half precision activations.
        return torch.addcmul(bias[:, :, None, None], self.norm(x), gain[:, :, None, None]).to(x.dtype)

    def _check(self, x: Tensor, c: Tensor) -> None:
        check_shape("ConditionalBatchNorm2d", "x", x, ["batch", self.num_features, "height", "width"])
        if self.embedding_dim is not None:
            check_shape("ConditionalBatchNorm2d", "c", c, [x.shape[0], self.embedding_dim])
        else:
            check_labels("ConditionalBatchNorm2d", "c", c, x.shape[0])

    def extra_repr(self) -> str:
        kind = f"embedding_dim={self.embedding_dim}" if self.num_classes is None else f"num_classes={self.num_classes}"
        return f"{self.num_features}, {kind}"
