"""The critic's objective as in textbooks: create_graph=True, in plain PyTorch, without fastgan.

The critic is called as `fastgan.critic_loss` documents: data, samples, then once for each further set of points.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops import interpolation_weights

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nonsaturating": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
    "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic_pairing": lambda r, f: F.softplus(f - r).mean(),
}


class Textbook:
    """What a program calls `api`."""

    def critic_loss(
        self,
        critic: Callable[..., Tensor],
        real: Tensor,
        fake: Tensor,
        *,
        loss: str | Callable[[Tensor, Tensor], Tensor],
        penalties: Sequence[Any],
        labels: Any = None,
        fake_labels: Any = None,
    ) -> Tensor:
        rest = _tuple(labels)
        fake_rest = rest if fake_labels is None else _tuple(fake_labels)
        penalised = {p.at for p in penalties}
        d_real, g_real, _ = _evaluated(critic, real, rest, "real" in penalised)
        d_fake, g_fake, x_fake = _evaluated(critic, fake, fake_rest, "fake" in penalised)
        objective = LOSSES[loss] if isinstance(loss, str) else loss
        total = value = objective(d_real, d_fake)
        norms: list[Tensor] = []
        values: list[Tensor] = []
        for p in penalties:
            g = {"real": g_real, "fake": g_fake}.get(p.at)
            if g is None:
                _, g, _ = _evaluated(critic, _points(p, real.detach(), fake.detach()), rest, True)
            norm = g.flatten(1).norm(2, dim=1)
            values.append(_price(p, norm).mean())
            norms.append(norm.detach())
            total = total + values[-1]
        total = total * 1
        total.seen = [value, *values, *norms, d_real, d_fake]
        if fake.requires_grad and g_fake is not None and torch.is_grad_enabled():
            generator = F.softplus(-d_fake).mean()
            (t,) = torch.autograd.grad(generator, x_fake, retain_graph=True)
            total.generator = (t.detach() * fake).sum()
        return total

    def gradient_penalty(self, critic: Callable[..., Tensor], x: Tensor, penalty: Any, *, labels: Any = None) -> Tensor:
        output, g, _ = _evaluated(critic, x, _tuple(labels), True)
        norm = g.flatten(1).norm(2, dim=1)
        total = _price(penalty, norm).mean()
        total.seen = [norm.detach(), output]
        return total

    def generator_loss_from(self, total: Tensor, loss: str) -> Tensor:
        assert loss == "nonsaturating"
        return total.generator

    def explain(self, *_: Any, **__: Any) -> None:
        """Nothing is changed by it."""


def _tuple(labels: Any) -> tuple:
    return () if labels is None else labels if isinstance(labels, tuple) else (labels,)


def _evaluated(critic: Callable[..., Tensor], x: Tensor, rest: tuple, penalised: bool) -> tuple[Tensor, Any, Tensor]:
    """The outputs, the differentiable gradient of each with respect to its sample if it is wanted, and the points."""
    x = x.detach()
    with torch.enable_grad():
        if not penalised:
            return critic(x, *rest), None, x
        x.requires_grad_()
        output = critic(x, *rest)
        (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return output, g, x


def _points(penalty: Any, real: Tensor, fake: Tensor) -> Tensor:
    """Drawn as fastgan draws them, so that both are of the same points."""
    if penalty.name == "dragan":
        return real + torch.randn_like(real) * (penalty.deviation * real.std(correction=0))
    seed = torch.randint(2**62, (1,))
    eps = interpolation_weights(seed, len(real), real.device).to(real.dtype).view(-1, *[1] * (real.ndim - 1))
    return eps * real + (1 - eps) * fake


def _price(penalty: Any, norm: Tensor) -> Tensor:
    if penalty.name in ("r1", "r2"):
        return penalty.gamma / 2 * norm.square()
    excess = norm - penalty.target
    return penalty.weight * (excess.clamp(min=0) if penalty.one_sided else excess).square()
