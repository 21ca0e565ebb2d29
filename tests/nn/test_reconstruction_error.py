"""The reconstruction error, sample by sample, and the critics that it makes."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import fastgan
from fastgan.losses import began, ebgan
from fastgan.nn import ReconstructionError
from fastgan.penalties import R1


def autoencoder():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 12), nn.Unflatten(1, (3, 2, 2)))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_it_is_the_mean_over_each_sample(power, batch, generator):
    critic = ReconstructionError(autoencoder(), power).double()
    x = torch.randn(batch, 3, 2, 2, dtype=torch.float64, generator=generator)
    rebuilt = critic.autoencoder(x).detach().numpy()
    expected = [np.mean(np.abs(a - b) ** power) for a, b in zip(rebuilt, x.numpy(), strict=True)]
    found = critic(x)
    assert found.shape == (batch,)
    np.testing.assert_allclose(found.detach(), np.array(expected).reshape(batch), rtol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_derivatives(power, generator):
    critic = ReconstructionError(autoencoder(), power).double()
    # A kink of |A(x) - x| within the step of the differences has a chance of 1e-5 in these twelve numbers.
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(critic, (x,))
    assert torch.autograd.gradgradcheck(critic, (x,))


@pytest.mark.parametrize("loss", [ebgan(0.5), began()])
def test_it_is_a_critic(loss, generator):
    """Both games differentiate it, with a penalty too, and an autoencoder learns data from it."""
    critic = ReconstructionError(autoencoder(), 2)
    real, fake = torch.randn(2, 6, 3, 2, 2, generator=generator)
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0),))
    total.backward()
    assert total.method == "double_backward"
    assert all(p.grad.isfinite().all() for p in critic.parameters())
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    first = critic(real).mean().item()
    for _ in range(150):
        optimizer.zero_grad()
        loss.critic(critic(real), critic(fake)).backward()
        optimizer.step()
    assert critic(real).mean().item() < 0.7 * first


def test_half_precision_gives_float32(generator):
    critic = ReconstructionError(autoencoder()).bfloat16()
    x = torch.randn(4, 3, 2, 2, generator=generator).bfloat16()
    found = critic(x)
    assert found.dtype == torch.float32
    rebuilt = critic.autoencoder(x)
    torch.testing.assert_close(found, (rebuilt.float() - x.float()).square().mean((1, 2, 3)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ReconstructionError(autoencoder())(x.float()).dtype == torch.float32


def test_labels_go_to_the_autoencoder():
    class Conditional(nn.Module):
        def forward(self, x, labels):
            return x + labels[:, None]

    x, labels = torch.zeros(3, 4), torch.tensor([0.0, 1.0, 2.0])
    assert ReconstructionError(Conditional())(x, labels).tolist() == [0, 1, 4]


def test_an_input_that_is_overwritten_is_refused(generator):
    x = torch.randn(5, 4)
    with pytest.raises(ValueError, match="ReconstructionError: x was changed in place by the autoencoder"):
        ReconstructionError(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)))(x)
    x = torch.randn(5, 4)
    hidden = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4))
    expected = (hidden(x) - x).square().mean(1)
    assert torch.equal(ReconstructionError(hidden)(x), expected)
    torch.testing.assert_close(torch.compile(ReconstructionError(hidden), backend="eager", fullgraph=True)(x), expected)


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"ReconstructionError: autoencoder is function, expected a torch\.nn\.Module"):
        ReconstructionError(autoencoder)
    with pytest.raises(ValueError, match="ReconstructionError: power is 3, expected 1 or 2"):
        ReconstructionError(autoencoder(), 3)
    for module, shape, rebuilt in ((nn.Linear(4, 1), [3, 4], [3, 1]), (nn.Identity(), [3], [3])):
        message = re.escape(f"x has shape {shape} and its reconstruction {rebuilt}, expected the same [B, ...]")
        with pytest.raises(ValueError, match=message):
            ReconstructionError(module)(torch.zeros(shape))
    with pytest.raises(TypeError, match=r"ReconstructionError: x is torch\.int64, expected a floating-point tensor"):
        ReconstructionError(nn.Identity())(torch.zeros(3, 4, dtype=torch.int64))
