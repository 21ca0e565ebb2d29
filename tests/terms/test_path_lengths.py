"""Path-length regularisation against a Jacobian that is written down row by row, and against finite differences."""

import pytest
import torch

from fastgan.models import StyleGAN2Generator
from fastgan.terms import path_length


@pytest.fixture
def network():
    made = StyleGAN2Generator((8, 12), 1, z_dim=4, w_dim=3, mapping_layers=1, width=16, max_width=3)
    return made.double().eval()


def test_lengths_are_those_of_the_jacobian(network, generator):
    z = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    torch.manual_seed(1)
    found = path_length(network, z, torch.tensor(0.5, dtype=torch.float64), decay=0.25)
    torch.manual_seed(1)
    y = torch.randn(3, 1, 8, 12, dtype=torch.float64) / 96**0.5
    lengths = []
    for ws, image in zip(network.ws(z).detach(), y, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda w: network.synthesis(w[None])[0], ws)
        g = torch.einsum("chw,chwld->ld", image, jacobian)
        lengths.append(g.square().sum(1).mean().sqrt())
    lengths = torch.stack(lengths)
    torch.testing.assert_close(found.lengths, lengths)
    mean = 0.75 * 0.5 + 0.25 * lengths.mean()
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.penalty, (lengths - mean).square().mean())


def test_its_gradient_is_that_of_finite_differences(network, generator):
    z = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    # With a mean that does not move the penalty is a function of the parameters alone.
    mean = torch.tensor(0.3, dtype=torch.float64)

    def penalty():
        torch.manual_seed(1)
        return path_length(network, z, mean, decay=0.0).penalty

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)

    def moved(step):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=step)
        value = penalty().item()
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=step)
        return value

    # Of a network with kinks: one that lies within the longer step is rarely within the shorter one too.
    numeric = [(moved(step) - moved(-step)) / (2 * step) for step in (1e-6, 1e-7)]
    assert min(abs(found - expected.item()) for found in numeric) <= 1e-5 * abs(expected.item())
