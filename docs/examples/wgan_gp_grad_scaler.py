"""WGAN-GP in float16 with autocast and GradScaler, five critic steps for each step of the generator."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import fastgan
from fastgan.penalties import WGANGP

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
images = torch.tensor(load_digits().images, dtype=torch.float32, device=device).flatten(1) / 8 - 1  # [1797, 64]
critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
generator = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh())
critic.to(device), generator.to(device)
critic_optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.9))
generator_optimizer = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.0, 0.9))
scaler = torch.amp.GradScaler(device)


def update(loss, optimizer):
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)


for step in range(1, 101):
    real, z = images[torch.randint(len(images), (64,))], torch.randn(64, 16, device=device)
    with torch.autocast(device, dtype=torch.float16):
        loss = fastgan.critic_loss(critic, real, generator(z).detach(), loss="wasserstein", penalties=(WGANGP(10.0),))
    update(loss, critic_optimizer)
    if step % 5 == 0:
        with torch.autocast(device, dtype=torch.float16):
            generator_loss = -critic(generator(z)).mean()
        update(generator_loss, generator_optimizer)
    scaler.update()
norm = loss.gradient_norms["wgan-gp"].mean()
print(f"estimated distance {-loss.loss:.2f}, gradient norm {norm:.2f} (goal 1), loss scale {scaler.get_scale():g}")
