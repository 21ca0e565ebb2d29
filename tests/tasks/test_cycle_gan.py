"""CycleGAN: steps equal to the paper's loop written out in float64, the buffer of images, and a falling cycle error."""

import copy

import pytest
import torch
from torch.optim import Adam

from fastgan import recipes
from fastgan.data import Images
from fastgan.errors import UserError
from fastgan.models import PatchCritic, TranslationGenerator
from fastgan.tasks import CycleGAN
from fastgan.tasks.image_buffer import ImageBuffer
from fastgan.train import fit

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE, BATCH, BUFFER, STEPS = (1, 16, 16), 3, 6, 5


def networks(dtype):
    made = [TranslationGenerator(1, 2, 1) for _ in range(2)] + [PatchCritic(1, 2, 1) for _ in range(2)]
    for network in made:  # at weights of N(0, 0.02^2) hardly anything reaches the output
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return [network.to(dtype) for network in made]


def two_sets(generator, dtype, n=20):
    return {name: Images(name, torch.randn(n, *SHAPE, generator=generator).to(dtype).clamp(-1, 1)) for name in "ab"}


class Loop:
    """Zhu et al. 2017, sections 3 and 7.2: generators G (to b) and F (to a), a critic of each set, two Adams."""

    def __init__(self, to_b, to_a, critic_a, critic_b, lr):
        self.to_b, self.to_a, self.critic_a, self.critic_b = (
            copy.deepcopy(n) for n in (to_b, to_a, critic_a, critic_b)
        )
        self.buffers = {"a": [], "b": []}
        self.critics = Adam([*self.critic_a.parameters(), *self.critic_b.parameters()], lr, (0.5, 0.999))
        self.generators = Adam([*self.to_b.parameters(), *self.to_a.parameters()], lr, (0.5, 0.999))

    def shown(self, name, fake, places, swaps):
        """Image by image: kept until the buffer is full, then perhaps exchanged for one of it."""
        buffer, out, full = self.buffers[name], [], len(self.buffers[name]) == BUFFER
        for image, place, swap in zip(fake, places.tolist(), swaps.tolist(), strict=True):
            if not full:
                buffer.append(image)
                out.append(image)
            elif swap:
                out.append(buffer[place])
                buffer[place] = image
            else:
                out.append(image)
        return torch.stack(out)

    def critic_step(self, a, b, drawn):
        total = 0
        for name, critic, real, fake in (
            ("a", self.critic_a, a, self.to_a(b)), ("b", self.critic_b, b, self.to_b(a)),
        ):  # fmt: skip
            shown = self.shown(name, fake.detach(), drawn[f"place_{name}"], drawn[f"swap_{name}"])
            # The paper divides the critics' loss by 2.
            total = total + ((critic(real) - 1) ** 2).mean() / 2 + (critic(shown) ** 2).mean() / 2
        self.critics.zero_grad()
        total.backward()
        self.critics.step()
        return total

    def generator_step(self, a, b):
        fake_b, fake_a = self.to_b(a), self.to_a(b)
        adversarial = ((self.critic_b(fake_b) - 1) ** 2).mean() / 2 + ((self.critic_a(fake_a) - 1) ** 2).mean() / 2
        cycle = (self.to_a(fake_b) - a).abs().mean() + (self.to_b(fake_a) - b).abs().mean()
        identity = (self.to_a(a) - a).abs().mean() + (self.to_b(b) - b).abs().mean()
        total = adversarial + 10 * cycle + 5 * identity
        self.generators.zero_grad()
        total.backward()
        self.generators.step()
        return total


def test_steps_are_those_of_the_paper_s_loop(generator):
    made, sources = networks(torch.float64), two_sets(generator, torch.float64)
    task = CycleGAN(*made, SHAPE, buffer=BUFFER).double()
    loop = Loop(*made, lr=1e-2)
    drawn = []
    draw = task.draw

    def watched(data, random):
        found = draw(data, random)
        drawn.append({**data, **found})
        return found

    task.draw = watched
    settings = {"batch_size": BATCH, "lr": 1e-2, "lr_critic": 1e-2, "beta1": 0.5, "beta2": 0.999, "device": "cpu"}
    run = fit(task, sources, steps=STEPS, **settings)
    assert run.step == STEPS
    for step in range(STEPS):
        of_critics, of_generators = drawn[2 * step : 2 * step + 2]
        loop.critic_step(of_critics["a"], of_critics["b"], of_critics)
        loop.generator_step(of_generators["a"], of_generators["b"])
        assert torch.equal(of_critics["a"], of_generators["a"])
    for ours, theirs in (
        (task.generators["b"], loop.to_b), (task.generators["a"], loop.to_a),
        (task.critics["a"], loop.critic_a), (task.critics["b"], loop.critic_b),
    ):  # fmt: skip
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)
    for name in "ab":
        torch.testing.assert_close(task._buffer(name).samples, torch.stack(loop.buffers[name]), rtol=1e-9, atol=1e-9)


def test_the_buffer_is_the_papers_image_by_image(seed):
    """Against Shrivastava et al.'s history in Python, where batches fill it evenly."""
    drawn = torch.Generator().manual_seed(seed)
    buffer, history = ImageBuffer(6, (1,)), []
    for step in range(40):
        new = torch.tensor([[10.0 * step + i] for i in range(3)])
        places, swaps = buffer.draw(3, drawn)
        assert len(set(places.tolist())) == 3
        shown = buffer.shown(new, places, swaps)
        buffer.keep(new, places, swaps)
        expected, full = [], len(history) == 6
        for image, place, swap in zip(new, places.tolist(), swaps.tolist(), strict=True):
            if not full:
                history.append(image)
            elif swap:
                expected.append(history[place])
                history[place] = image
                continue
            expected.append(image)
        assert torch.equal(shown, torch.stack(expected))
    assert torch.equal(buffer.samples, torch.stack(history))


def test_half_of_what_is_shown_is_old(generator):
    buffer, old = ImageBuffer(50, (1,)), 0
    for step in range(500):
        choice = buffer.draw(2, generator)
        new = torch.full((2, 1), float(step))
        old += int((buffer.shown(new, *choice) != step).sum())
        buffer.keep(new, *choice)
    assert 400 < old < 560  # of 950 after the first 50, 475 +- 15


def test_the_cycle_error_falls():
    recipe = recipes.read(
        "cycle-gan-small",
        ["data.resolution=16", "task.generator.width=8", "task.generator.blocks=1", "task.critic.width=8",
         "task.critic.halvings=1", "run.steps=120", "run.batch_size=8", "run.device=cpu", "run.ema=0.9",
         "game.lr=1e-3"],
    )  # fmt: skip
    run = recipes.run_of(recipe)
    before = run.task.measure(run.sources, 64)
    for _ in run:
        pass
    after = run.task.measure(run.sources, 64)
    assert before.keys() == {f"{what}_error_{name}" for what in ("cycle", "identity") for name in "ab"}
    assert all(after[name] < 0.6 * before[name] for name in before)


def test_given_images_are_translated(generator):
    task = CycleGAN(*networks(torch.float32), SHAPE)
    images = torch.randn(5, *SHAPE, generator=generator).clamp(-1, 1)
    there = task.sample(3, given={"a": images})
    torch.testing.assert_close(there, task.averages["b"](images[:3]).detach())
    torch.testing.assert_close(task.sample(9, given={"b": images}), task.averages["a"](images).detach())
    for given in (None, {}, {"c": images}, {"a": images, "b": images}):
        with pytest.raises(UserError, match="expected those of set a or of set b"):
            task.sample(3, given=given)
    assert task.picture({"a": images, "b": images}).dtype == torch.uint8


def test_what_does_not_go_together(generator):
    made, sources = networks(torch.float32), two_sets(generator, torch.float32)
    with pytest.raises(UserError, match=r"task\.buffer is 2, expected at least run\.batch_size, which is 3"):
        fit(CycleGAN(*made, SHAPE, buffer=2), sources, steps=1, batch_size=3)
    with pytest.raises(UserError, match=r"task\.loss is 'mmd', expected an objective of each sample's logit alone"):
        CycleGAN(*made, SHAPE, loss="mmd")
    with pytest.raises(UserError, match=r"the data are a, expected a, b"):
        fit(CycleGAN(*made, SHAPE), {"a": sources["a"]}, steps=1)
    with pytest.raises(UserError, match=r"data\.b has samples of shape \[1, 8, 8\], expected \[1, 16, 16\]"):
        fit(CycleGAN(*made, SHAPE), {"a": sources["a"], "b": torch.zeros(9, 1, 8, 8)}, steps=1)


@pytest.mark.parametrize("game", ["extragradient", "consensus:0.1", "optimistic", "alternating:2"])
def test_other_games(generator, game):
    task = CycleGAN(*networks(torch.float32), SHAPE)
    before = [p.detach().clone() for p in task.parameters()]
    fit(task, two_sets(generator, torch.float32), steps=2, batch_size=3, game=game, lr=1e-3, lr_critic=1e-3)
    assert any((p != q).any() for p, q in zip(task.parameters(), before, strict=True))
    assert all(p.isfinite().all() for p in task.parameters())
