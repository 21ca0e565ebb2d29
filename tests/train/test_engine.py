"""The engine: chunks, buffers, clipping, precision, and random numbers that are functions of the step."""

import copy

import pytest
import torch
from torch import nn

from fastgan.errors import UserError
from fastgan.losses import hinge
from fastgan.penalties import R1, WGANGP
from fastgan.tasks import GAN, Now, Part
from fastgan.train import fit
from fastgan.train.engine import TaskEngine, numbers_on_cpu
from fastgan.train.reader import Reader
from fastgan.train.run import Run
from fastgan.train.settings import GameSettings, RunSettings
from fastgan.train.sources import sources_of

pytestmark = pytest.mark.usefixtures("one_thread")
BATCH = 12


class Generator(nn.Module):
    def __init__(self, norm=False):
        super().__init__()
        self.latent_dim = 5
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Linear(8, 16))

    def forward(self, z):
        return self.layers(z).tanh().view(-1, 1, 4, 4)


def critic(dropout=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2), nn.Dropout(dropout), nn.Linear(8, 1))


def engine_of(task, data, chunks=1, step=3, **settings):
    made = TaskEngine(
        task, Reader(sources_of(data, task.needs), BATCH, 7), 7, torch.device("cpu"), chunks=chunks, **settings
    )
    made.begin(Now(step, 0, numbers_on_cpu({"penalty_weight": 1.0}), frozenset({"penalties"})))
    return made


def gradients(module):
    return [p.grad.clone() for p in module.parameters()]


@pytest.fixture
def data(generator):
    return torch.randn(60, 1, 4, 4, generator=generator, dtype=torch.float64).clamp(-1, 1)


@pytest.mark.parametrize("side", ["critic", "generator"])
@pytest.mark.parametrize("chunks", [2, 3, 12])
def test_chunks_make_the_gradient_of_the_whole_batch(data, side, chunks):
    """Of a mean over samples, with a penalty at points of the data."""
    task = GAN(Generator(), critic(), "hinge", (R1(3.0),)).double()
    twin = copy.deepcopy(task)
    whole, cut = engine_of(task, data), engine_of(twin, data, chunks)
    values = [engine.gradient(side, engine.batch()) for engine in (whole, cut)]
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(twin.side(side)), gradients(task.side(side)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert whole.log.keys() == cut.log.keys()
    for name in whole.log:
        torch.testing.assert_close(cut.log[name], whole.log[name], rtol=1e-10, atol=1e-12)


def test_every_chunk_starts_from_the_same_buffers_and_they_move_by_the_mean(data):
    task = GAN(Generator(norm=True), critic(), "hinge").double()
    before = {name: buffer.clone() for name, buffer in task.named_buffers()}
    apart = []
    engine = engine_of(task, data, chunks=3)
    batch = engine.batch()
    for z in batch.tensors["latent"].chunk(3):
        twin = copy.deepcopy(task)
        twin.generators["generator"](z)
        apart.append({name: buffer - before[name] for name, buffer in twin.named_buffers()})
    engine.gradient("generator", batch)
    for name, buffer in task.named_buffers():
        mean = torch.stack([moved[name].double() for moved in apart]).mean(0)
        torch.testing.assert_close(buffer.double(), before[name].double() + mean, rtol=1e-12, atol=1e-12)
    norm = task.generators["generator"].layers[1]
    assert norm.num_batches_tracked == 1
    assert (norm.running_mean != 0).any()


def test_dropout_is_another_in_every_chunk_and_the_same_for_one_batch(data):
    task = GAN(Generator(), critic(dropout=0.5), "hinge").double()
    engine = engine_of(task, data, chunks=2)
    batch = engine.batch()
    first = engine.gradient("critic", batch)
    torch.rand(5)
    assert torch.equal(engine.gradient("critic", batch), first)
    assert not torch.equal(engine.gradient("critic", engine.again(batch)), first)
    halves = copy.deepcopy(batch)
    for value in halves.tensors.values():  # two halves that are alike
        value[BATCH // 2 :] = value[: BATCH // 2]
    seen = []
    task.critics["critic"][3].register_forward_hook(lambda _, inputs, output: seen.append((output == 0).clone()))
    engine.gradient("critic", halves)
    assert len(seen) == 4
    assert not torch.equal(seen[0], seen[2])


def test_draws_depend_on_the_step_and_the_call_alone(data):
    task = GAN(Generator(), critic(), "hinge").double()
    one, other = engine_of(task, data), engine_of(task, data)
    first = one.batch()
    torch.rand(9)
    assert torch.equal(other.batch().tensors["latent"], first.tensors["latent"])
    again = one.again(first)
    assert torch.equal(again.tensors["image"], first.tensors["image"])
    assert not torch.equal(again.tensors["latent"], first.tensors["latent"])
    assert again.key != first.key
    assert not torch.equal(engine_of(task, data, step=4).batch().tensors["latent"], first.tensors["latent"])
    # An epoch leaves the reader where it is.
    position = one.reader.position
    assert len(list(one.epoch())) == 5
    assert one.reader.position == position


def test_second_order_sees_the_same_draws(data):
    task = GAN(Generator(), critic(dropout=0.5), "hinge", (WGANGP(5.0),)).double()
    engine = engine_of(task, data)
    batch = engine.batch()
    losses = engine.losses(batch)
    torch.testing.assert_close(losses.generator.detach(), engine.gradient("generator", batch), rtol=1e-12, atol=0)
    torch.testing.assert_close(losses.critic.detach(), engine.gradient("critic", batch), rtol=1e-10, atol=0)
    for p in task.generators.parameters():
        assert torch.autograd.grad(losses.critic, p, retain_graph=True)[0].abs().sum() > 0


def test_the_opponent_is_frozen_and_gradients_are_assigned_anew(data):
    task = GAN(Generator(), critic(), "hinge").double()
    engine = engine_of(task, data)
    batch = engine.batch()
    engine.gradient("critic", batch)
    first = gradients(task.critics)
    assert all(p.grad is None for p in task.generators.parameters())
    engine.gradient("critic", batch)
    assert all(torch.equal(a, b) for a, b in zip(gradients(task.critics), first, strict=True))
    assert all(p.requires_grad for p in [*task.critics.parameters(), *task.generators.parameters()])


def test_clipping_scales_a_side_s_gradient_to_the_largest_norm(data):
    task = GAN(Generator(), critic(), "hinge").double()
    plain, clipped = engine_of(task, data), engine_of(task, data, clip=1e-3)
    plain.gradient("critic", plain.batch())
    exact = torch.cat([g.flatten() for g in gradients(task.critics)])
    clipped.gradient("critic", clipped.batch())
    found = torch.cat([g.flatten() for g in gradients(task.critics)])
    torch.testing.assert_close(found, exact * 1e-3 / exact.norm(), rtol=1e-4, atol=0)


def test_bfloat16_computes_in_half_and_keeps_float32(data):
    """The gradient is within bfloat16's rounding of float32's, and not equal to it."""
    task = GAN(Generator(), critic(), "hinge", (R1(1.0),))
    found = {}
    for precision in ("float32", "bfloat16"):
        engine = engine_of(task, data.float(), precision=precision)
        engine.gradient("critic", engine.batch())
        found[precision] = torch.cat([p.grad.flatten() for p in task.critics.parameters()])
        assert found[precision].dtype == torch.float32
    error = (found["bfloat16"] - found["float32"]).norm() / found["float32"].norm()
    assert 1e-6 < error < 0.05
    run = fit(task, data.float(), steps=3, batch_size=BATCH, precision="bfloat16", device="cpu")
    assert all(p.isfinite().all() for p in run.task.parameters())


def test_a_step_is_the_bare_loop_s(data):
    """Alternating Adam on the hinge loss, written out."""
    task = GAN(Generator(), critic(), "hinge").double()
    twin, drawn = copy.deepcopy(task), []
    draw = task.draw
    task.draw = lambda found, random: drawn.append({**found, **draw(found, random)}) or drawn[-1]
    settings = {"lr": 1e-2, "lr_critic": 2e-2, "beta1": 0.3, "beta2": 0.9, "ema": 0.7, "device": "cpu"}
    run = fit(task, data, steps=3, batch_size=BATCH, **settings)
    net, judge = twin.generators["generator"], twin.critics["critic"]
    average = copy.deepcopy(net)
    of_critic = torch.optim.Adam(judge.parameters(), 2e-2, (0.3, 0.9))
    of_generator = torch.optim.Adam(net.parameters(), 1e-2, (0.3, 0.9))
    for step in range(3):
        images, z, other = drawn[2 * step]["image"], drawn[2 * step]["latent"], drawn[2 * step + 1]["latent"]
        of_critic.zero_grad()
        hinge.critic(judge(images), judge(net(z).detach())).backward()
        of_critic.step()
        of_generator.zero_grad()
        (-judge(net(other))).mean().backward()
        of_generator.step()
        decay = min(0.7, (2 + step) / (11 + step))
        with torch.no_grad():
            for p, q in zip(average.parameters(), net.parameters(), strict=True):
                p.copy_(decay * p + (1 - decay) * q)
    for ours, theirs in ((run.task.generators, net), (run.task.critics, judge), (run.task.averages, average)):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)


class Masked(nn.Module):
    """Layers whose buffers are infinite, whole numbers, and truth values."""

    def __init__(self):
        super().__init__()
        self.latent_dim, self.layer = 5, nn.Linear(5, 16)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("hidden", torch.tensor([torch.inf]), persistent=False)
        self.register_buffer("seen", torch.tensor(False))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, z):
        self.seen |= True
        self.calls += 1
        return (self.layer(z) * self.mask.softmax(0)[0]).tanh().view(-1, 1, 4, 4)


@pytest.mark.parametrize("chunks", [1, 2])
def test_infinite_masks_and_truth_values_stay_what_they_are(data, tmp_path, chunks):
    torch.manual_seed(0)
    settings = {"steps": 3, "batch_size": BATCH, "device": "cpu", "chunks": chunks, "quiet": True}
    run = fit(GAN(Masked(), critic(), "hinge"), data.float(), tmp_path / "run", **settings)
    for network in (run.task.generators["generator"], run.task.averages["generator"]):
        assert network.mask.tolist() == [0.0, -torch.inf]
        assert network.hidden.tolist() == [torch.inf]
        assert network.seen
    assert run.task.generators["generator"].calls == 2 * 3  # once for each side


def test_weights_that_are_shared_are_saved_and_move_once(data, tmp_path):
    """Two names of one tensor, in a network and in its average."""

    def tied():
        torch.manual_seed(0)
        made = Generator()
        made.layers[2] = nn.Linear(8, 16)
        made.other = made.layers[2]
        return made

    settings = {"batch_size": BATCH, "device": "cpu", "quiet": True, "log_every": 1}
    torch.manual_seed(1)
    judge = critic()
    runs = [
        fit(GAN(make(), copy.deepcopy(judge), "hinge"), data.float(), tmp_path / name, steps=4, **settings)
        for name, make in (("tied", tied), ("again", tied))
    ]
    one = runs[0].task
    assert one.averages["generator"].other.weight is one.averages["generator"].layers[2].weight
    plain = tied()
    del plain.other
    apart = fit(GAN(plain, copy.deepcopy(judge), "hinge"), data.float(), None, steps=4, **settings).task
    for name, value in apart.averages.state_dict().items():
        assert torch.equal(value, one.averages.state_dict()[name]), name
    fit(GAN(tied(), copy.deepcopy(judge), "hinge"), data.float(), tmp_path / "parts", steps=2, **settings)
    parts = fit(
        GAN(tied(), copy.deepcopy(judge), "hinge"), data.float(), tmp_path / "parts", steps=4, resume=True, **settings
    )
    for name, value in runs[1].tensors().items():
        assert torch.equal(value, parts.tensors()[name]), name


def test_a_snapshot_s_batches_are_neither_logged_nor_kept(data):
    """Variance reduction: what a step logs is of the step's own batch."""
    task = GAN(Generator(), critic(), "hinge").double()
    settings = RunSettings(steps=2, batch_size=BATCH, device="cpu")
    run = Run(task, sources_of(data, task.needs), GameSettings(kind="variance-reduced"), settings)
    for step in run:
        assert step.log["critic"] == step.losses.critic
        assert step.log["generator"] == step.losses.generator
        assert len(run.engine._data) == 1  # data of an epoch are not held


class Telling(GAN):
    """A GAN with one more term."""

    def generator_parts(self, batch, now):
        yield from super().generator_parts(batch, now)
        yield self.more(next(self.generators.parameters()).sum())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (lambda x: 3.0, "generator_parts yields float, expected fastgan.tasks.Part"),
        (
            lambda x: Part(x * torch.ones(2)),
            r"generator_parts yields a loss of shape \[2\], expected a scalar that requ",
        ),
        (lambda x: Part(x.detach()), r"generator_parts yields a loss of shape \[\], expected a scalar that requires"),
        (lambda x: Part(x, {"step": x.detach()}), "generator_parts logs 'step': .* under names other than step"),
        (lambda x: Part(x, {"size": x}), "generator_parts logs 'size': .*, expected detached scalar tensors"),
        (lambda x: Part(x, {"size": 3.0}), "generator_parts logs 'size': 3.0, expected detached scalar tensors"),
    ],
)
def test_terms_that_are_none(data, more, message):
    task = Telling(Generator(), critic(), "hinge")
    task.more = more
    with pytest.raises(UserError, match=message):
        fit(task, data.float(), steps=1, batch_size=BATCH, device="cpu")
