"""R1 and R2 gradient penalties in an ordinary training loop: `fastgan.critic_loss` in place of the critic's loss."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import fastgan
from fastgan.penalties import R1, R2

torch.manual_seed(0)
images = torch.tensor(load_digits().images, dtype=torch.float32).flatten(1) / 8 - 1  # [1797, 64], in [-1, 1]
critic = nn.Sequential(nn.Linear(64, 256), nn.LeakyReLU(0.2), nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1))
generator = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 64), nn.Tanh())
critic_optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.99))
generator_optimizer = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.0, 0.99))

for step in range(1, 101):
    real = images[torch.randint(len(images), (64,))]
    fake = generator(torch.randn(64, 16))

    # Before: loss = F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()
    loss = fastgan.critic_loss(critic, real, fake.detach(), loss="nonsaturating", penalties=(R1(1.0), R2(1.0)))
    critic_optimizer.zero_grad()
    loss.backward()
    critic_optimizer.step()

    generator_optimizer.zero_grad()
    F.softplus(-critic(fake)).mean().backward()
    generator_optimizer.step()
    if step % 25 == 0:
        penalties = ", ".join(f"{name} {value:.3f}" for name, value in loss.penalties.items())
        print(f"step {step}: loss {loss.loss:.3f}, {penalties}, computed by {loss.method}")
