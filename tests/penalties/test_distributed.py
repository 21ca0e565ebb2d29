"""critic_loss on a critic in DistributedDataParallel: two processes, gloo."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fastgan
from tests.penalties.common import ALL, METHODS, assert_same
from tests.penalties.critics import CRITICS, build

pytestmark = pytest.mark.usefixtures("one_thread")


KINDS = (
    "plain",
    "spectral norm",
    "fastgan's spectral norm",
    "packed",
    "within a packed one",
    "hook",
    "subclass",
    "compiled",
    "scales",
)


class _Scales(nn.Module):
    """A list of maps; the first step of one_pass computes activations again, those after it have them kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = (
            nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 2)).double() for _ in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.fine(x), self.coarse(nn.functional.interpolate(x, scale_factor=2))]


def _critic(kind: str) -> nn.Module:
    torch.manual_seed(3)
    if kind == "scales":
        return _Scales()
    critic = build(CRITICS["dcgan"])
    if kind == "spectral norm":
        for i in (0, 2, 4):
            critic[i] = parametrizations.spectral_norm(critic[i])
    elif kind == "fastgan's spectral norm":
        fastgan.nn.spectral_norm_(critic)
    elif "packed" in kind:
        critic[0] = nn.Conv2d(6, 8, 4, 2, 1, dtype=torch.float64)
        return fastgan.nn.PackedCritic(critic, 2)
    return critic


class _Tripled(nn.parallel.DistributedDataParallel):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def _alone(kind: str) -> nn.Module:
    """The critic that one process calls with all samples."""
    critic = _critic(kind)
    if kind in ("hook", "subclass"):
        critic.register_forward_hook(lambda module, inputs, output: 3 * output)
    return critic


def _distributed(kind: str, network: nn.Module) -> nn.Module:
    if kind == "hook":
        wrapper = nn.parallel.DistributedDataParallel(network)
        wrapper.register_forward_hook(lambda module, inputs, output: 3 * output)
        return wrapper
    if kind == "subclass":
        return _Tripled(network)
    if kind == "compiled":
        return torch.compile(nn.parallel.DistributedDataParallel(network), backend="eager")
    if kind != "within a packed one":
        return nn.parallel.DistributedDataParallel(network)
    return fastgan.nn.PackedCritic(nn.parallel.DistributedDataParallel(network.critic), network.m)


def _steps(critic, network, real, fake, method, steps=3):
    """Steps of SGD; returns the gradients of each step."""
    optimiser = torch.optim.SGD(network.parameters(), 0.05)
    found = []
    for step in range(steps):
        optimiser.zero_grad()
        fastgan.critic_loss(critic, real + step, fake, penalties=ALL, method=method).backward()
        found.append({name: p.grad.clone() for name, p in network.named_parameters()})
        optimiser.step()
    return found, {name: b.clone() for name, b in network.named_buffers()}


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    real, fake = torch.load(f"{folder}/samples.pt")
    mine = slice(2 * rank, 2 * rank + 2)
    results = {}
    for kind in KINDS:
        for method in METHODS:
            network = _critic(kind)
            wrapped = _distributed(kind, network)
            results[kind, method] = _steps(wrapped, network, real[mine], fake[mine], method)
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
def test_distributed_data_parallel_averages_exactly(tmp_path, samples):
    torch.save(samples, tmp_path / "samples.pt")
    torch.multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for kind in KINDS:
        network = _alone(kind)
        expected, buffers = _steps(network, network, *samples, "double_backward")
        for method in METHODS:
            for rank in ranks:
                found, found_buffers = rank[kind, method]
                for ours, truth in zip(found, expected, strict=True):
                    assert_same(ours, truth, 1e-9)
                for name, b in buffers.items():
                    torch.testing.assert_close(found_buffers[name], b, msg=f"{kind} {method} {name}")
