"""Runs whose critic judges packs: gradients against packs put together by hand, resumed bit for bit, and refused."""

import pytest
import torch

from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.nn import SpectralNorm
from fastgan.ops import interpolate
from fastgan.penalties import parse
from fastgan.train import TrainConfig, load_generator, resume, train
from fastgan.train.closures import critic_objective, generator_objective
from fastgan.train.networks import FEATURES
from fastgan.train.regularisation import Regularisation
from fastgan.train.step import train_step

M, HALF_R1, HALF_R2, GP = 4, 0.5, 1.5, 10.0
METHODS = {
    ("digits-resnet", "alternating"): "one pass",
    ("digits-dcgan", "alternating"): "double backward, because ",
    ("digits-resnet", "consensus"): "double backward, for consensus",
}


@pytest.fixture
def state(tiny, double):
    """Makes the state of a run in float64, without dropout and noise; every one is the same."""

    def make(**changes):
        made = double(tiny(**{"preset": "digits-resnet", "penalty": "none", "pack": M, **changes}))
        made.critic.eval()
        return made

    return make


def packs(x):
    """Each M samples as the channels of one."""
    return torch.stack([torch.cat([x[first + i] for i in range(M)]) for first in range(0, len(x), M)])


def squared_norms(critic, points):
    """Of the gradient with respect to all of a pack's numbers."""
    points = points.detach().requires_grad_()
    (g,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return g.square().sum((1, 2, 3))


@pytest.mark.parametrize(("preset", "optimizer"), METHODS)
def test_critic_gradients_are_of_whole_packs(state, preset, optimizer):
    ours, textbook = (state(preset=preset, optimizer=optimizer) for _ in range(2))
    images, loss = ours.next_batch().images, LOSSES["hinge"]
    torch.manual_seed(3)  # of the interpolation weights
    total, step = critic_objective(
        ours, loss, images, ours.next_latents(), parse(f"r1:{2 * HALF_R1},r2:{2 * HALF_R2},wgan-gp:{GP}")
    )
    total.backward(inputs=list(ours.critic.parameters()))

    torch.manual_seed(3)
    critic = textbook.critic.critic
    real, fake = packs(images), packs(textbook.generator(textbook.next_latents()).detach())
    assert real.shape == (len(images) // M, M, 8, 8)
    plain = loss.critic(critic(real), critic(fake))
    between = squared_norms(critic, interpolate(real, fake, torch.randint(2**62, (1,)))).sqrt()
    values = {
        "r1": HALF_R1 * squared_norms(critic, real).mean(),
        "r2": HALF_R2 * squared_norms(critic, fake).mean(),
        "wgan-gp": GP * (between - 1).square().mean(),
    }
    expected = torch.autograd.grad(plain + sum(values.values()), list(critic.parameters()))
    torch.testing.assert_close([p.grad for p in ours.critic.parameters()], list(expected), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(step.losses["critic"], plain.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(step.penalties, {n: v.detach() for n, v in values.items()}, rtol=1e-9, atol=0)
    assert step.gradient_norms["wgan-gp"].shape == (len(images) // M,)
    assert step.method.startswith(METHODS[preset, optimizer])


@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing", "mmd"])
def test_generator_gradients_are_of_whole_packs(state, loss):
    ours, textbook = (state(loss=loss) for _ in range(2))
    images = ours.next_batch().images
    value = generator_objective(ours, LOSSES[loss], images, ours.next_latents())
    value.backward(inputs=list(ours.generator.parameters()))

    critic = textbook.critic.critic
    judged = critic(packs(textbook.generator(textbook.next_latents())))
    assert judged.shape == (len(images) // M, FEATURES if loss == "mmd" else 1)
    expected = LOSSES[loss].generator(judged, critic(packs(images)).detach())
    torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(expected, list(textbook.generator.parameters()))
    torch.testing.assert_close([p.grad for p in ours.generator.parameters()], list(expected), rtol=1e-9, atol=1e-13)


def test_one_sample_at_a_time_is_the_critic_without_packing(state):
    assert type(state(pack=1).critic) is type(state().critic.critic)
    assert state(pack=1).critic.state_dict().keys() == state().critic.critic.state_dict().keys()


@pytest.mark.parametrize(
    "chosen",
    [
        {"preset": "digits-dcgan", "spectral_norm": True},
        {"preset": "digits-resnet", "spectral_norm": True},
        {"preset": "stylegan2-small", "resolution": "8", "channels": 1, "batch_size": 8},
    ],
    ids=lambda chosen: chosen["preset"],
)
def test_a_resumed_run_goes_on_bit_for_bit(chosen, resumed):
    run = resumed(**chosen, penalty="wgan-gp:10", pack=2)
    assert load_generator(run).sample(3).isfinite().all()


def test_norms_of_all_layers_come_from_one_call(state, monkeypatch):
    """Also where a penalty calls the critic of packs itself: no layer computes its own."""
    made = state(spectral_norm=True, penalty="r1:1")
    made.critic.train()
    assert sum(isinstance(module, SpectralNorm) for module in made.critic.modules()) > 5
    monkeypatch.setitem(SpectralNorm.forward.__globals__, "spectral_norm_op", None)
    train_step(made, Regularisation(parse("r1:1")))


def test_another_degree_is_another_run(tiny):
    result = train(tiny(pack=2, steps=1), quiet=True)
    with pytest.raises(UserError, match=r"--pack is 4, but the run was started with 2; expected the same"):
        resume(result.run, quiet=True, steps=2, pack=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pack": 0}, "--pack is 0, expected at least 1"),
        ({"pack": 3}, "--pack is 3, expected a divisor of --batch-size, which is 64"),
        ({"pack": 128}, "--pack is 128, expected a divisor of --batch-size, which is 64"),
        ({"pack": 2, "loss": "began"}, "--pack is 2, expected 1: began rewards what is easy to reconstruct"),
        ({"pack": 64, "loss": "mmd"}, "--pack is 64, expected at most half of --batch-size, as mmd compares packs"),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": tmp_path / "run", **changes})
