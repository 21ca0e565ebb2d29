"""`fastgan.explain` shows whether an own critic's gradient penalty takes one pass, and which layers are in the way."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import fastgan
from fastgan.penalties import R1

images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # [1797, 1, 8, 8], in [-1, 1]


class Critic(nn.Module):
    """A residual block between two convolutions, with any normalisation and activation."""

    def __init__(self, norm, activation):
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.norm, self.activation = norm(32), activation()
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        x = self.activation(self.norm(self.first(x)))
        x = x + self.activation(self.second(x))
        return self.head(x.mean((2, 3)))


usual = Critic(nn.BatchNorm2d, nn.SiLU)
print("batch norm and SiLU:")
fastgan.explain(usual, images[:8])

changed = Critic(nn.Identity, nn.LeakyReLU)
print("\nno normalisation and leaky ReLU:")
fastgan.explain(changed, images[:8])

for critic in (usual, changed):  # the gradient is exact in both cases; only its price differs
    loss = fastgan.critic_loss(critic, images[:8], images[8:16], penalties=(R1(10.0),))
    print(f"{loss.method}: loss {loss.loss:.3f}, R1 {loss.penalties['r1']:.4f}")
