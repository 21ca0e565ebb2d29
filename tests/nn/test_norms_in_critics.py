"""A gradient penalty of critics with each of the normalisations, against differentiating twice by hand."""

import copy

import pytest
import torch
from torch import nn

from fastgan.losses import nonsaturating
from fastgan.nn import BatchRenorm2d, ConditionalBatchNorm2d, SplitBatchNorm2d, VirtualBatchNorm, set_reference_batch
from fastgan.penalties import R1, critic_loss


class Critic(nn.Module):
    """Convolution, normalisation, leaky ReLU, a logit; labels go to the normalisation where there are any."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 3), norm, nn.Linear(3 * 4, 1)

    def forward(self, x, *labels):
        return self.head(nn.functional.leaky_relu(self.norm(self.conv(x), *labels), 0.2).flatten(1))


NORMS = {
    "batch renorm": lambda: BatchRenorm2d(3),
    "conditional": lambda: ConditionalBatchNorm2d(3, num_classes=2),
    "split": lambda: SplitBatchNorm2d(3),
    "virtual": lambda: VirtualBatchNorm(3),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NORMS)
def test_gradient_of_r1(name, training, generator):
    critic = Critic(NORMS[name]()).double()
    if name == "virtual":
        set_reference_batch(critic, torch.randn(5, 2, 4, 4, dtype=torch.float64))
    critic.train(training)
    real, fake = torch.randn(2, 6, 2, 4, 4, dtype=torch.float64)
    labels = (torch.arange(6) % 2,) if name == "conditional" else ()

    by_hand = copy.deepcopy(critic)
    points = real.clone().requires_grad_()
    real_logits, fake_logits = by_hand(points, *labels), by_hand(fake, *labels)
    (g,) = torch.autograd.grad(real_logits.sum(), points, create_graph=True)
    loss = nonsaturating.critic(real_logits, fake_logits) + 5 * g.square().sum() / 6
    expected = torch.autograd.grad(loss, list(by_hand.parameters()), allow_unused=True)

    total = critic_loss(critic, real, fake, penalties=(R1(10.0),), labels=labels or None)
    # Constant statistics leave a critic piecewise affine; those of the batch or of the sample do not.
    assert (total.method == "one_pass") == (not training and name in ("batch renorm", "split"))
    total.backward()
    for p, e in zip(critic.parameters(), expected, strict=True):
        found = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(found, torch.zeros_like(p) if e is None else e, rtol=1e-8, atol=1e-9)
