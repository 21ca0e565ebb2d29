"""Entropy regularisation of prescribed GANs: noise gives the generator a density, whose entropy is then raised.

    head = GaussianHead((1, 32, 32))                             # trained along with the generator
    x = head(generator(z))                                       # what the critic sees as fake; so that it cannot tell
    noisy = real + head.sigma.detach() * torch.randn_like(real)  # by the noise, the data get as much
    chain = latent_posterior(generator, head, x, z, step_size)
    step_size = chain.step_size
    surrogate = entropy_surrogate(generator, head, x, chain.samples)
    (nonsaturating.generator(critic(x), None) - 0.01 * surrogate).backward()
    optimizer.step()
    head.truncate_()

Dieng et al. 2019, arXiv:1910.04302. The numbers that are defaults here are those of the authors' code.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.ops._common.checks import check_count, check_floating, check_number
from fastgan.ops._common.precision import compute_dtype
from fastgan.terms.hamiltonian import Chain, hamiltonian_monte_carlo

Generator = Callable[[Tensor], Tensor]


class GaussianHead(nn.Module):
    """x = μ + σ ⊙ ε, ε ~ N(0, I): turns a generator's output μ(z) into a sample of p(x | z) = N(μ(z), σ²).

    With it the generator has a density, p(x) = ∫ N(x; μ(z), σ²) N(z; 0, I) dz. σ does not depend on z; its logarithm is
    learned. Noise comes from PyTorch's global generator, in training and evaluation; the picture to show is μ.

    Args:
        shape: of σ: that of a sample, where sizes of 1 are shared, as in (1, H, W) for one σ for each pixel.
        sigma: at first, between low and high.
        low, high: what `truncate_` keeps σ between, both above 0: gradients of the entropy grow like 1 / σ, and the
            noise must not drown the picture.

    Shape: [B, ...] -> the same, of the same dtype.

    Raises:
        TypeError: in forward, the mean is no floating-point tensor.
        ValueError: a size is below 1, or not 0 < low <= sigma <= high; in forward, the shape of the mean is another.

    Dieng et al. 2019, arXiv:1910.04302, section 3.
    """

    def __init__(self, shape: Sequence[int], sigma: float = 0.3, low: float = 0.01, high: float = 0.3) -> None:
        super().__init__()
        for size in shape:
            check_count("GaussianHead", "shape", size)
        for name, value in (("sigma", sigma), ("low", low), ("high", high)):
            check_number("GaussianHead", name, value, above=True)
        if not low <= sigma <= high:
            raise ValueError(
                f"GaussianHead: sigma is {sigma!r}, expected a number from low = {low!r} to high = {high!r}"
            )
        self.low, self.high = low, high
        self.log_variance = nn.Parameter(torch.full(tuple(shape), 2 * math.log(sigma)))

    @property
    def sigma(self) -> Tensor:
        """σ, in the shape of the layer; differentiable."""
        return (self.log_variance / 2).exp()

    def forward(self, mean: Tensor) -> Tensor:
        self._check("mean", mean)
        return torch.addcmul(mean, self.sigma, torch.randn_like(mean)).to(mean.dtype)

    def log_prob(self, x: Tensor, mean: Tensor) -> Tensor:
        """log N(x; mean, σ²), summed over all but the batch: [B]; float32 at least."""
        self._check("mean", mean)
        residual = (x.to(compute_dtype(x)) - mean) / self.sigma
        constant = (self.log_variance + math.log(2 * math.pi)).expand(mean.shape[1:]).sum()
        return -(residual.square().flatten(1).sum(1) + constant) / 2

    @torch.no_grad()
    def truncate_(self) -> None:
        """Clamps σ to [low, high] in place; call it after each update."""
        self.log_variance.clamp_(2 * math.log(self.low), 2 * math.log(self.high))

    def _check(self, name: str, value: Tensor) -> None:
        check_floating("GaussianHead", name, value)
        sizes = tuple(self.log_variance.shape)
        fits = value.ndim == len(sizes) + 1 and all(a in (1, b) for a, b in zip(sizes, value.shape[1:], strict=True))
        if not fits:
            raise ValueError(f"GaussianHead: {name} has shape {list(value.shape)}, expected [batch, *{list(sizes)}]")

    def extra_repr(self) -> str:
        return f"{tuple(self.log_variance.shape)}, low={self.low}, high={self.high}"


def latent_posterior(
    network: Generator, head: GaussianHead, x: Tensor, z: Tensor, step_size: float | Tensor, **options: Any
) -> Chain:
    """Samples of p(z | x) ∝ N(x; μ(z), σ²) N(z; 0, I) by Hamiltonian Monte Carlo.

    The chains start at the z that made x. As (z, x) is a draw from their joint density, that z already is a sample of
    the posterior, and the chain is stationary from its start. What the burn-in has to do is to make it forget z:
    `entropy_surrogate` needs samples that are independent of z given x, and as far as they still resemble z its
    gradient is too small; at z itself the network gets none. The authors make two proposals.

    Args:
        network: μ, each sample of its output a function of its own z alone: no batch norm in training mode.
        head: with σ.
        x: [B, ...], head(network(z)); a constant here.
        z: [B, ...], standard normal.
        step_size: the authors start at 1 / (dimensions of z) and go on from the last `step_size`.
        options: `samples`, `burn_in`, ... of `hamiltonian_monte_carlo`.

    Returns:
        samples [samples, B, ...], acceptance and step size.

    Raises:
        TypeError, ValueError: as `hamiltonian_monte_carlo` and `GaussianHead.log_prob`.

    Dieng et al. 2019, arXiv:1910.04302, section 3. The authors' code leaves the gradient of the likelihood out of the
    leapfrog steps, which keeps the chain exact but makes its proposals those of the prior; here it is in.
    """
    check_floating("latent_posterior", "z", z)
    if z.ndim < 2:
        raise ValueError(f"latent_posterior: z has shape {list(z.shape)}, expected [batch, ...]")
    if not isinstance(step_size, Tensor):
        check_number("latent_posterior", "step_size", step_size, above=True)
    x = x.detach()

    def log_joint(z: Tensor) -> Tensor:
        return head.log_prob(x, network(z)) - z.square().flatten(1).sum(1) / 2

    return hamiltonian_monte_carlo(log_joint, z, step_size, **options)


def entropy_surrogate(network: Generator, head: GaussianHead, x: Tensor, samples: Tensor) -> Tensor:
    """A scalar whose gradient is an unbiased estimate of that of the entropy H of p(x), which is to be maximised.

        ∇H = -E[∇_x log p(x) · ∇x],        -∇_x log p(x) = E_{p(z' | x)}[(x - μ(z')) / σ²]

    where x = μ(z) + σ ⊙ ε carries the graph and the score is a constant, estimated by the mean over the samples of the
    posterior. (The third term, E[∇ log p] at a fixed x, is zero.) The value itself is no entropy: its expectation is
    the number of dimensions of x, whatever the density, which tells whether chains and σ are right.

    Args:
        network: μ, of which no gradient is taken here: x has it.
        head: with σ.
        x: [B, ...], head(network(z)) with its graph.
        samples: [S, B, ...], of the posterior given each x, independent of the z that made it.

    Returns:
        A scalar, the mean over the batch; float32 (float64 for float64).

    Raises:
        TypeError: x is no floating-point tensor.
        ValueError: the samples are not for as many x, or the shape of x is not the head's.

    Dieng et al. 2019, arXiv:1910.04302, section 3.
    """
    head._check("x", x)
    if samples.ndim < 2 or samples.shape[1] != x.shape[0] or samples.shape[0] < 1:
        raise ValueError(
            f"entropy_surrogate: samples has shape {list(samples.shape)}, expected [samples, {x.shape[0]}, ...]"
        )
    exact = x.to(compute_dtype(x))
    with torch.no_grad():
        means = network(samples.flatten(0, 1)).unflatten(0, samples.shape[:2]).to(exact.dtype).mean(0)
        score = (exact - means) / head.sigma.square()
    return (score * exact).flatten(1).sum(1).mean()
