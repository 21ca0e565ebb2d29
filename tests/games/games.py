"""Games whose steps are known in closed form: quadratic ones, with their Jacobian."""

import numpy as np
import torch

from fastgan.games import Closures


class Quadratic:
    """L_critic = x'Ax/2 + x'By, L_generator = y'Cy/2 + y'Dx, x the critic, y the generator; v(w) = Jw.

    Attributes:
        x, y: parameters, float64, each in two tensors of other shapes if it has more than one number.
        J: the Jacobian of the vector field, [[A, B], [D, C]].
    """

    def __init__(self, A, B, C, D):
        self.matrices = [torch.as_tensor(m, dtype=torch.float64) for m in (A, B, C, D)]
        A, B, C, D = (m.numpy() for m in self.matrices)
        self.J = np.block([[A, B], [D, C]])
        self.n, self.m = len(A), len(C)
        self.x, self.y = parts(self.n), parts(self.m)

    def critic(self):
        A, B, _, _ = self.matrices
        x, y = whole(self.x), whole(self.y)
        return x @ A @ x / 2 + x @ B @ y

    def generator(self):
        _, _, C, D = self.matrices
        x, y = whole(self.x), whole(self.y)
        return y @ C @ y / 2 + y @ D @ x

    @property
    def w(self):
        return torch.cat([whole(self.x), whole(self.y)]).detach().numpy()

    @w.setter
    def w(self, value):
        value = torch.as_tensor(value, dtype=torch.float64)
        fill(self.x, value[: self.n])
        fill(self.y, value[self.n :])


def parts(n):
    """n numbers as parameters of different shapes."""
    sizes = [(n,)] if n < 3 else [(n - 2,), (1, 2)]
    return [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in sizes]


def whole(tensors):
    return torch.cat([t.flatten() for t in tensors])


def fill(tensors, values):
    with torch.no_grad():
        for t, value in zip(tensors, values.split([t.numel() for t in tensors]), strict=True):
            t.copy_(value.view_as(t))


def bilinear():
    """V(x, y) = -xy: the critic maximises V = minimises xy... L_critic = -V = xy, L_generator = V = -xy."""
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    return Quadratic(zero, one, zero, -one)


def random_quadratic(rng, n=4, m=3, scale=1.0):
    """Symmetric positive definite A and C, any B and D: not zero-sum."""
    A, C = (q @ q.T / len(q) + 0.3 * np.eye(len(q)) for q in (rng.normal(size=(k, k)) for k in (n, m)))
    return Quadratic(scale * A, scale * rng.normal(size=(n, m)), scale * C, scale * rng.normal(size=(m, n)))


def engine_of(game, critic, generator, batches=4):
    """Both players' closures as the game's engine; the data are as many batches, all alike."""
    return Closures(game, critic, generator, epoch=lambda: [(critic, generator)] * batches)


def step_matrix(game_of, quadratic, steps=1):
    """The linear map that `steps` steps of a fresh game make of w, column by column."""
    size = quadratic.n + quadratic.m
    columns = []
    for unit in np.eye(size):
        quadratic.w = unit
        game = game_of()
        for _ in range(steps):
            game.step(engine_of(game, quadratic.critic, quadratic.generator))
        columns.append(quadratic.w)
    return np.stack(columns, axis=1)


def radius(matrix):
    """The spectral radius."""
    return np.abs(np.linalg.eigvals(matrix)).max()
