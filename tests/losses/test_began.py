"""The boundary-equilibrium losses: a weight that is controlled, kept, copied and restored."""

import copy
import pickle

import numpy as np
import pytest
import torch

from fastgan.losses import LOSSES, began, parse
from fastgan.losses.began_loss import convergence_measure, critic, next_k


@pytest.fixture
def errors(generator):
    return torch.rand(2, 9, dtype=torch.float64, generator=generator)


def test_the_formulas(errors):
    real, fake = errors
    x, y = np.mean(real.numpy()), np.mean(fake.numpy())
    k = torch.tensor(0.3, dtype=torch.float64)
    assert critic(k, real, fake).item() == pytest.approx(x - 0.3 * y, rel=1e-12)
    assert next_k(k, 0.7, 0.1, real, fake).item() == pytest.approx(0.3 + 0.1 * (0.7 * x - y), rel=1e-12)
    for scale in (0.1, 10.0):  # on either side of the balance
        expected = x + abs(0.7 * x - scale * y)
        assert convergence_measure(0.7, real, scale * fake).item() == pytest.approx(expected, rel=1e-12)
    assert next_k(k, 0.5, 100.0, real, fake * 0).item() == 1
    assert next_k(k, 0.5, 100.0, real, fake + 1).item() == 0
    leaves = [side.clone().requires_grad_() for side in errors]
    assert torch.autograd.gradcheck(lambda a, b: critic(k, a, b), leaves)


def test_k_follows_the_balance(errors):
    real, fake = errors
    loss = began(gamma=0.6, lambda_k=0.05)
    fake = fake * 0.1  # reconstructed better than data: k grows
    k = 0.0
    assert loss.k == 0
    for _ in range(30):
        expected = np.mean(real.numpy()) - k * np.mean(fake.numpy())
        assert loss.critic(real, fake).item() == pytest.approx(expected, rel=1e-12)
        loss.update(real.clone().requires_grad_(), fake)
        k = min(1.0, max(0.0, k + 0.05 * (0.6 * np.mean(real.numpy()) - np.mean(fake.numpy()))))
        assert loss.k.item() == pytest.approx(k, rel=1e-12)
        assert not loss.k.requires_grad
    assert k > 0.1
    assert loss.generator(fake, None) == fake.mean()
    measure = np.mean(real.numpy()) + abs(0.6 * np.mean(real.numpy()) - np.mean(fake.numpy()))
    assert loss.convergence(real.clone().requires_grad_(), fake).item() == pytest.approx(measure, rel=1e-12)


def test_k_reaches_the_balance_of_a_linear_game():
    """Where the critic answers to k with E_q D = 0.4 + k / 2, beside E_p D = 1, k settles where that is gamma."""
    loss, real = began(gamma=0.7, lambda_k=0.1), torch.ones(4)
    for _ in range(400):
        loss.update(real, torch.full((4,), 0.4 + loss.k.item() / 2))
    assert loss.k.item() == pytest.approx(0.6, abs=1e-5)
    assert loss.convergence(real, torch.full((4,), 0.7)).item() == pytest.approx(1, abs=1e-6)


def test_an_update_before_the_backward_pass_changes_nothing(errors):
    real, fake = (side.clone().requires_grad_() for side in errors)
    loss = began(lambda_k=0.5)
    loss.load_state_dict({"k": 0.25})
    value = loss.critic(real, fake)
    loss.update(real, fake)
    up, down = torch.autograd.grad(value, (real, fake))
    torch.testing.assert_close(up, torch.full_like(up, 1 / 9))
    torch.testing.assert_close(down, torch.full_like(down, -0.25 / 9))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_a_copy_has_a_k_of_its_own(copied, errors):
    loss = began(lambda_k=0.5)
    loss.update(*errors)
    other = copied(loss)
    assert other.k == loss.k
    other.load_state_dict({"k": 0.75})
    assert other.critic(*errors).item() == pytest.approx((errors[0].mean() - 0.75 * errors[1].mean()).item(), rel=1e-12)
    assert loss.k != 0.75
    assert parse("began").k == parse("began:0.5").k == LOSSES["began"].k == 0
    assert parse("began") is not parse("began")


def test_state(errors):
    loss, other = began(lambda_k=0.3), began(lambda_k=0.3)
    for _ in range(3):
        loss.update(errors[0], errors[1] * 0.1)
    state = loss.state_dict()
    other.load_state_dict(state)
    kept = state["k"].item()
    for game in (loss, other):
        game.update(errors[0], errors[1] * 0.1)
    assert loss.k == other.k != kept == state["k"].item()
    with pytest.raises(ValueError, match=r"began: state has the keys \['gamma', 'k'\], expected k"):
        other.load_state_dict({"k": 0.1, "gamma": 0.5})
    for k in (1.5, -0.1, float("nan"), torch.zeros(2), 1):
        with pytest.raises(ValueError, match=r"began: k is .*, expected a scalar from 0 to 1"):
            other.load_state_dict({"k": k})


def test_half_precision_shows_small_steps_of_k():
    """0.999 is 1 in bfloat16."""
    errors = torch.full((4,), 1e4, dtype=torch.bfloat16)
    loss = began()
    loss.load_state_dict({"k": 0.999})
    value = loss.critic(errors, errors)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.001 * errors[0].item(), rel=1e-4)
    loss.update(errors, errors)
    assert loss.k.dtype == torch.float32


def test_parameters():
    assert parse("began:0.7").gamma == 0.7
    assert parse("began:0.7").name == "began:0.7"
    with pytest.raises(ValueError, match=r"'began:half', expected a number for gamma, and another for lambda_k"):
        parse("began:half")
    for gamma in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"began: gamma is {gamma}, expected a number above 0 and at most 1"):
            began(gamma)
    with pytest.raises(ValueError, match="began: lambda_k is 0, expected a number above 0"):
        began(lambda_k=0)
