"""A task of your own: an adversarial autoencoder (Makhzani et al. 2015), whose critic tells codes from normal noise."""

import torch
from torch import nn

from fastgan.losses import nonsaturating
from fastgan.tasks import Field, Part, Task
from fastgan.train import fit


class AdversarialAutoencoder(Task):
    def __init__(self):
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8))
        decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
        critic = nn.Sequential(nn.Linear(8, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
        super().__init__({"critic": critic}, {"encoder": encoder, "decoder": decoder}, averaged=["encoder", "decoder"])
        self.needs = {"image": Field((1, 8, 8))}

    def draw(self, data, random):
        return {"code": torch.randn(len(data["image"]), 8, generator=random)}

    def critic_parts(self, batch, now):
        critic, found = self.critics["critic"], self.generators["encoder"](batch.tensors["image"])
        yield Part(nonsaturating.critic(critic(batch.tensors["code"]), critic(found)))

    def generator_parts(self, batch, now):
        image = batch.tensors["image"]
        error = (self.generators["decoder"](self.generators["encoder"](image)) - image).square().mean()
        yield Part(error, log={"error": error.detach()})
        yield Part(0.1 * nonsaturating.generator(self.critics["critic"](self.generators["encoder"](image)), None))

    def sample(self, n, seed=0, given=None):
        noise = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)).to(self.device)
        codes = noise if given is None else self.averages["encoder"](given["image"][:n].to(self.device))
        return self.averages["decoder"](codes).cpu()


if __name__ == "__main__":
    run = fit(AdversarialAutoencoder(), "digits", steps=500, lr=1e-3, lr_critic=1e-3, device="cpu")
    print(f"mean square of the error: {run.log['error']:.3f}, of {list(run.task.sample(64).shape)} samples")
