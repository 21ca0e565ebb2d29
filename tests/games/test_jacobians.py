"""Methods with second derivatives on a game that is not quadratic, against its explicit Jacobian."""

import pytest
import torch
from torch.optim import SGD

from fastgan.games import Closures, Consensus, RungeKutta, Simultaneous, SymplecticAdjustment
from fastgan.games.field import pulled_back

LR = 0.05


class Smooth:
    """A game of 6 against 4 numbers with every kind of curvature."""

    def __init__(self, generator):
        def draw(*size):
            return torch.randn(size, generator=generator, dtype=torch.float64)

        self.M, self.N, self.b = draw(6, 4) / 2, draw(4, 6) / 2, draw(6) / 2
        self.x, self.y = (draw(n).requires_grad_() for n in (6, 4))

    def losses(self, w):
        x, y = w[:6], w[6:]
        critic = ((x + self.b).tanh() @ self.M @ y.sin()) + (x**2).sum() / 4 + (x[:4] * y).sum().cos()
        generator = (self.N @ x).sin() @ y - torch.logsumexp(x[:4] + y, 0) + (y**4).sum() / 20
        return critic, generator

    def closures(self):
        return (
            lambda: self.losses(torch.cat([self.x, self.y]))[0],
            lambda: self.losses(torch.cat([self.x, self.y]))[1],
        )

    def field(self, w):
        critic, generator = self.losses(w)
        return torch.cat(
            [
                torch.autograd.grad(critic, w, create_graph=True)[0][:6],
                torch.autograd.grad(generator, w, create_graph=True)[0][6:],
            ]
        )

    def at(self):
        """w, v(w) and J(w), the latter entry by entry."""
        w = torch.cat([self.x, self.y]).detach().requires_grad_()
        return w.detach(), self.field(w).detach(), torch.autograd.functional.jacobian(self.field, w)

    def moved(self, game):
        game.step(Closures(game, *self.closures()))
        return torch.cat([self.x, self.y]).detach()

    def optimizers(self):
        return SGD([self.x], lr=LR), SGD([self.y], lr=LR)


@pytest.fixture
def smooth(generator):
    return Smooth(generator)


def test_products_with_the_jacobian(smooth, generator):
    _, v, J = smooth.at()
    game = Simultaneous(*smooth.optimizers())
    engine = Closures(game, *smooth.closures())
    graph = game.field(engine, engine.batch()).simultaneous()
    torch.testing.assert_close(torch.cat([g.detach() for g in graph]), v)
    u = torch.randn(10, generator=generator, dtype=torch.float64)
    cut, parameters = [u[:6], u[6:]], [smooth.x, smooth.y]
    torch.testing.assert_close(torch.cat(pulled_back(graph, cut, parameters)), J.T @ u)
    torch.testing.assert_close(torch.cat(pulled_back(graph, cut, parameters)), J.T @ u)  # the graph is kept


def test_consensus(smooth):
    w, v, J = smooth.at()
    expected = w - LR * (v + 3 * J.T @ v)
    torch.testing.assert_close(smooth.moved(Consensus(*smooth.optimizers(), gamma=3)), expected)


@pytest.mark.parametrize("align", [False, True])
def test_symplectic_adjustment(smooth, align):
    w, v, J = smooth.at()
    adjustment = (J - J.T).T @ v / 2
    h = J.T @ v
    sign = torch.sign((v @ h) * (adjustment @ h) / 10 + 0.1) if align else 1
    expected = w - LR * (v + 2 * sign * adjustment)
    torch.testing.assert_close(smooth.moved(SymplecticAdjustment(*smooth.optimizers(), 2, align)), expected)


def test_gradient_regularisation_of_ode_gan(smooth):
    w, v, J = smooth.at()
    ahead = (w - LR * v).requires_grad_()
    slope = (v + smooth.field(ahead).detach()) / 2
    pull = torch.zeros_like(w)
    pull[:6] = 2 * J[6:, :6].T @ v[6:]  # grad_x of ||v_y||^2
    expected = w - LR * (slope + 0.7 * pull)
    torch.testing.assert_close(smooth.moved(RungeKutta(*smooth.optimizers(), 2, 0.7)), expected)
