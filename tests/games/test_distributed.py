"""Both players in DistributedDataParallel: two processes, gloo."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from fastgan.games import GAMES, Extragradient, RungeKutta
from fastgan.losses import nonsaturating
from tests.games.games import engine_of

SECOND_ORDER = [name for name, kind in GAMES.items() if kind.second_order]


class Shard:
    """The same two players everywhere, and closures over some rows of one batch."""

    def __init__(self, rows, wrap=lambda network: network):
        random = torch.Generator().manual_seed(11)
        torch.manual_seed(7)
        self.critic = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1)).double()
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        self.real, self.z = (torch.randn(8, n, generator=random, dtype=torch.float64)[rows] for n in (2, 3))
        self.D, self.G = wrap(self.critic), wrap(self.generator)

    def of_critic(self):
        return nonsaturating.critic(self.D(self.real), self.D(self.G(self.z)))

    def of_generator(self):
        return nonsaturating.generator(self.D(self.G(self.z)), None)

    def game(self, kind, *settings):
        optimizer = SGD if kind.plain else Adam
        return kind(*(optimizer(p.parameters(), lr=0.05) for p in (self.critic, self.generator)), *settings)

    def weights_after(self, name, steps=3):
        game = self.game(GAMES[name])
        for _ in range(steps):
            game.step(engine_of(game, self.of_critic, self.of_generator))
        return [p.detach().clone() for network in (self.critic, self.generator) for p in network.parameters()]


def _worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    rows, found = slice(4 * rank, 4 * rank + 4), {}
    for name in GAMES:
        shard = Shard(rows, nn.parallel.DistributedDataParallel)
        try:
            found[name] = shard.weights_after(name)
        except RuntimeError as error:
            found[name] = str(error)
    shard = Shard(rows, nn.parallel.DistributedDataParallel)
    try:
        game = shard.game(RungeKutta, 2, 0.1)
        game.step(engine_of(game, shard.of_critic, shard.of_generator))
    except RuntimeError as error:
        found["with a weight"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
def test_methods_of_first_order_step_as_with_the_whole_batch_and_the_others_raise(tmp_path):
    torch.multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name in GAMES:
            if name in SECOND_ORDER:
                assert found[name].startswith(f"{GAMES[name].__name__}: torch.distributed has 2 processes"), name
            else:
                expected = Shard(slice(None)).weights_after(name)
                torch.testing.assert_close(
                    found[name], expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
                )
        assert found["with a weight"].startswith("RungeKutta: torch.distributed has 2 processes")


def test_one_process_may_do_anything(tmp_path, monkeypatch):
    """A group of one, without starting it."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for size in (1, 2):
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda size=size: size)
        shard = Shard(slice(None))
        game = shard.game(Extragradient)
        game.step(engine_of(game, shard.of_critic, shard.of_generator))
        consensus = shard.game(GAMES["consensus"])
        if size == 1:
            consensus.step(engine_of(consensus, shard.of_critic, shard.of_generator))
        else:
            with pytest.raises(RuntimeError, match=r"Consensus: torch\.distributed has 2 processes, expected one"):
                consensus.step(engine_of(consensus, shard.of_critic, shard.of_generator))
