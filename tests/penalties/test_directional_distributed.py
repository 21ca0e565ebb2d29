"""method="directional" in two processes: fully_shard and DistributedDataParallel average as one process would."""

import contextlib

import pytest
import torch
from torch import nn

import fastgan
from fastgan.penalties import R1
from tests.penalties.critics import batch
from tests.penalties.smooth_critics import SMOOTH, composed, error

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed"),
]

PENALTIES = (R1(2.0),)
WRAPPERS = ("sharded", "sharded, not again", "data parallel")
KINDS = ("transformer", "group norm", "spectral norm")


def _critic(kind: str) -> nn.Module:
    torch.manual_seed(3)
    return SMOOTH[kind].build().double()


def _wrapped(wrapper: str, critic: nn.Module) -> nn.Module:
    if wrapper == "data parallel":
        return nn.parallel.DistributedDataParallel(critic)
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    for block in getattr(critic, "blocks", ()):
        fully_shard(block, mesh=mesh, reshard_after_forward=wrapper == "sharded")
    return fully_shard(critic, mesh=mesh, reshard_after_forward=wrapper == "sharded")


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.clone()


@contextlib.contextmanager
def _unsynchronised(critic: nn.Module):
    """Inside, the processes keep their gradients to themselves."""
    if hasattr(critic, "set_requires_gradient_sync"):
        critic.set_requires_gradient_sync(False)
        yield
        critic.set_requires_gradient_sync(True)
    else:
        with critic.no_sync() if hasattr(critic, "no_sync") else contextlib.nullcontext():
            yield


def _steps(critic, network, real, fake, method):
    """The gradients of two steps of SGD, scaled, accumulated over two batches and averaged after the second."""
    optimiser = torch.optim.SGD(network.parameters(), 0.05)
    found = []
    for _ in range(2):
        optimiser.zero_grad()
        with _unsynchronised(critic):
            (3 * fastgan.critic_loss(critic, real, fake, penalties=PENALTIES, method=method)).backward()
        (3 * fastgan.critic_loss(critic, real + 1, fake, penalties=PENALTIES, method=method)).backward()
        found.append({name: _whole(p.grad) for name, p in network.named_parameters()})
        optimiser.step()
    return found, {name: b.clone() for name, b in network.named_buffers()}


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    results = {}
    for kind in KINDS:
        real, fake = torch.load(f"{folder}/{kind}.pt")
        mine = slice(3 * rank, 3 * rank + 3)
        for wrapper in WRAPPERS:
            if kind == "spectral norm" and wrapper != "data parallel":  # parametrizations of sharded weights
                continue
            network = _critic(kind)
            wrapped = _wrapped(wrapper, network)
            for method in ("directional", "auto"):
                results[kind, wrapper, method] = _steps(wrapped, network, real[mine], fake[mine], method)
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path, seed):
    torch.manual_seed(seed)
    samples = {kind: batch(SMOOTH[kind], 6)[:2] for kind in KINDS}
    for kind in KINDS:
        torch.save(samples[kind], tmp_path / f"{kind}.pt")
    torch.multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for kind in KINDS:
        network = composed(_critic(kind))
        truths, buffers = _steps(network, network, *samples[kind], "double_backward")
        others, _ = _steps(network, network, *samples[kind], "double_backward")
        for wrapper in WRAPPERS:
            for method, expected in (("directional", truths), ("auto", others)):
                for rank in ranks:
                    if (kind, wrapper, method) not in rank:
                        continue
                    found, found_buffers = rank[kind, wrapper, method]
                    for ours, truth in zip(found, expected, strict=True):
                        assert error(ours, truth) <= 1e-7, (kind, wrapper, method)
                    if method == "directional":
                        for name, b in buffers.items():
                            torch.testing.assert_close(found_buffers[name], b, msg=f"{kind} {wrapper} {name}")
