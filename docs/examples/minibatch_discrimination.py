"""Minibatch discrimination as a layer: a critic with it tells that all samples of a batch look alike."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import fastgan

torch.manual_seed(0)
images = torch.tensor(load_digits().images, dtype=torch.float32).flatten(1) / 8 - 1  # [1797, 64], in [-1, 1]


def body():
    return nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2))


critics = {
    "each image by itself": nn.Sequential(body(), nn.Linear(128, 1)),
    "the batch, by minibatch discrimination": nn.Sequential(
        body(),
        fastgan.nn.MinibatchDiscrimination(128, 32, kernel_dims=5),  # [B, 128] -> [B, 128 + 32]
        nn.Linear(128 + 32, 1),
    ),
}
for name, critic in critics.items():
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    accuracies = []
    for _ in range(150):
        # A collapsed generator: 64 copies of one digit. Each is real, so that only the batch gives them away.
        real, fake = images[torch.randint(len(images), (64,))], images[torch.randint(len(images), (1,))].expand(64, -1)
        logits = torch.cat([critic(real), critic(fake)])
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat([torch.ones(64, 1), torch.zeros(64, 1)]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracies.append(((logits[:64] > 0).float().mean() + (logits[64:] <= 0).float().mean()) / 2)
    accuracy = torch.stack(accuracies[-50:]).mean()
    print(f"a critic that judges {name} is right about {accuracy:.0%} of real and collapsed images")
