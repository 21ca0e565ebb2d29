"""A DCGAN written with torch.nn, trained on scikit-learn's digits after `fastgan.accelerate` has swapped its layers."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import fastgan

torch.manual_seed(0)
images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # [1797, 1, 8, 8], in [-1, 1]

critic = nn.Sequential(
    spectral_norm(nn.Conv2d(1, 32, 3, padding=1)), nn.LeakyReLU(0.2),
    spectral_norm(nn.Conv2d(32, 64, 4, stride=2, padding=1)), nn.LeakyReLU(0.2),
    spectral_norm(nn.Conv2d(64, 128, 4, stride=2, padding=1)), nn.LeakyReLU(0.2),
    nn.Flatten(), spectral_norm(nn.Linear(512, 1)),
)  # fmt: skip
generator = nn.Sequential(
    nn.ConvTranspose2d(32, 128, 2), nn.BatchNorm2d(128), nn.ReLU(),
    nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.ConvTranspose2d(64, 1, 4, stride=2, padding=1), nn.Tanh(),
)  # fmt: skip
print(fastgan.accelerate(critic, profile=(images[:64],)))  # in place: what became of each layer, and the time it saves
print(fastgan.accelerate(generator))

critic_optimizer = torch.optim.Adam(critic.parameters(), 2e-4, betas=(0.5, 0.99))
generator_optimizer = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.5, 0.99))
for _ in range(20):
    real = images[torch.randint(len(images), (64,))]
    fake = generator(torch.randn(64, 32, 1, 1))
    critic_optimizer.zero_grad()
    loss = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(fake.detach())).mean()
    loss.backward()
    critic_optimizer.step()
    generator_optimizer.zero_grad()
    (-critic(fake).mean()).backward()
    generator_optimizer.step()
print(f"after 20 steps the critic's hinge loss is {loss:.2f}")
