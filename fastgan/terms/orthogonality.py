"""Orthogonal regularisation of BigGAN: the filters of a layer should point in different directions, at any length."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fastgan._torch_private import AnyConvolution
from fastgan.ops._common.checks import check_number
from fastgan.ops._common.precision import compute_dtype

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def orthogonal(module: nn.Module, strength: float = 1e-4, exclude: Iterable[nn.Module | Tensor] = ()) -> Tensor:
    """strength · Σ_W ||WᵀW ⊙ (1 - I)||²_F, as a loss.

    The columns of the paper's W are a layer's filters: PyTorch has them as rows, the first dimension of a weight (the
    second, for transposed convolutions), so that what is computed is the Gram matrix of the filters without its
    diagonal. That of the other side, W Wᵀ, is smaller where a layer has more filters than inputs, but its off-diagonal
    part is another number, and the trick ||WWᵀ||² - Σ_i ||w_i||⁴ subtracts nearly equal numbers where filters are
    nearly orthogonal; so it is not taken.

    Args:
        module: of which every parameter with two dimensions or more is regularised, once, whatever kind of layer it
            belongs to; the groups of a grouped convolution see different channels and are apart. Normalised or
            otherwise parametrised weights are taken as they are stored, before it.
        strength: β in the paper.
        exclude: parameters, or modules of which all parameters are left alone: class embeddings above all, whose rows
            are no filters.

    Returns:
        A scalar, float32 (float64 for float64 weights).

    Raises:
        ValueError: strength is negative or not finite, or no parameter is left.
        TypeError: exclude holds neither tensors nor modules.

    Brock et al. 2019, arXiv:1809.11096, equation 3.
    """
    check_number("orthogonal", "strength", strength)
    filters = [_filters(*weight) for weight in _weights("orthogonal", module, exclude)]
    return strength * torch.stack([_off_diagonal(group).square().sum() for group in filters]).sum()


@torch.no_grad()
def add_orthogonal_gradient_(
    module: nn.Module, strength: float = 1e-4, exclude: Iterable[nn.Module | Tensor] = ()
) -> None:
    """Adds the gradient of `orthogonal` to the parameters' `.grad`, without a graph: 4 · strength · W (WᵀW ⊙ (1 - I)).

    Two products of matrices for each weight instead of autograd's three, and nothing kept for a backward pass. Called
    after `backward()`, before the optimiser's step; frozen parameters are passed over. The authors' PyTorch code has
    the factor 2 where the derivative of equation 3 has 4: its strength s is our s / 2.

    Args and errors as `orthogonal`.

    Brock et al. 2019, arXiv:1809.11096, equation 3.
    """
    check_number("add_orthogonal_gradient_", "strength", strength)
    for w, groups, transposed in _weights("add_orthogonal_gradient_", module, exclude):
        if not w.requires_grad:
            continue
        filters = _filters(w, groups, transposed)
        gradient = _as_weight(torch.bmm(_off_diagonal(filters), filters), w, transposed)
        if w.grad is None:
            w.grad = (4 * strength * gradient).to(w.dtype)
        else:
            w.grad.add_(gradient, alpha=4 * strength)


def _weights(owner: str, module: nn.Module, exclude: Iterable[nn.Module | Tensor]) -> list[tuple[Tensor, int, bool]]:
    """(parameter, groups, whether it is a transposed convolution's) for each regularised parameter."""
    excluded = set(_identities(owner, exclude))
    kinds = {id(w): kind for layer in module.modules() if (kind := _kind(layer)) for w in layer.parameters()}
    weights = [w for w in module.parameters() if w.ndim >= 2 and id(w) not in excluded]
    found: list[tuple[Tensor, int, bool]] = [(w, *kinds.get(id(w), (1, False))) for w in weights]
    if not found:
        raise ValueError(
            f"{owner}: module has no parameter of two dimensions or more that is not excluded, expected one"
        )
    return found


def _kind(layer: nn.Module) -> tuple[int, bool] | None:
    """(groups, whether it is transposed) of a convolution; its parameters include those of parametrisations."""
    return (layer.groups, isinstance(layer, _TRANSPOSED)) if isinstance(layer, AnyConvolution) else None


def _identities(owner: str, exclude: Iterable[nn.Module | Tensor]) -> Iterator[int]:
    if isinstance(exclude, (Tensor, nn.Module)):
        raise TypeError(f"{owner}: exclude is {type(exclude).__name__}, expected a sequence of parameters and modules")
    for item in exclude:
        if isinstance(item, nn.Module):
            yield from map(id, item.parameters())
        elif isinstance(item, Tensor):
            yield id(item)
        else:
            raise TypeError(f"{owner}: exclude holds a {type(item).__name__}, expected parameters and modules")


def _filters(w: Tensor, groups: int, transposed: bool) -> Tensor:
    """[groups, filters of a group, numbers of a filter], in the dtype of the arithmetic."""
    apart = w.to(compute_dtype(w)).unflatten(0, (groups, -1))
    return (apart.transpose(1, 2) if transposed else apart).flatten(2)


def _as_weight(filters: Tensor, w: Tensor, transposed: bool) -> Tensor:
    """The inverse of `_filters`: filters in the shape of w."""
    if not transposed:
        return filters.reshape(w.shape)
    inputs = w.shape[0] // filters.shape[0]
    return filters.unflatten(2, (inputs, *w.shape[2:])).transpose(1, 2).reshape(w.shape)


def _off_diagonal(filters: Tensor) -> Tensor:
    """[G, n, m] -> [G, n, n]: the products of different filters of a group, 0 on the diagonal."""
    gram = filters @ filters.mT
    own = torch.eye(gram.shape[-1], dtype=torch.bool, device=gram.device)
    return gram.masked_fill(own, 0)
