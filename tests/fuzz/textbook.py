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


def _itself(output: Tensor) -> list[Tensor]:
    return [output]


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
        judge: Any = None,
        reduce: str = "sum",
        judged: Callable[[Any], list[Tensor]] = _itself,
    ) -> Tensor:
        number = _number(judged, reduce)
        rest = _tuple(labels)
        fake_rest = rest if fake_labels is None else _tuple(fake_labels)
        penalised = {p.at for p in penalties}
        d_real, g_real, _ = _evaluated(critic, real, rest, number if "real" in penalised else None)
        d_fake, g_fake, x_fake = _evaluated(critic, fake, fake_rest, number if "fake" in penalised else None)
        objective = loss
        if isinstance(loss, str):
            each = LOSSES[loss]

            def objective(real: Any, fake: Any) -> Tensor:
                return sum(each(r, f) for r, f in zip(judged(real), judged(fake), strict=True))

        total = value = objective(d_real, d_fake)
        norms: list[Tensor] = []
        values: list[Tensor] = []
        for p in penalties:
            g = {"real": g_real, "fake": g_fake}.get(p.at)
            if g is None:
                _, g, _ = _evaluated(critic, _points(p, real.detach(), fake.detach()), rest, number)
            norm = g.flatten(1).norm(2, dim=1)
            values.append(_price(p, norm).mean())
            norms.append(norm.detach())
            total = total + values[-1]
        total = total * 1
        total.seen = [value, *values, *norms, *judged(d_real), *judged(d_fake)]
        if fake.requires_grad and g_fake is not None and torch.is_grad_enabled():
            generator = sum(F.softplus(-d).mean() for d in judged(d_fake))
            (t,) = torch.autograd.grad(generator, x_fake, retain_graph=True)
            total.generator = (t.detach() * fake).sum()
        return total

    def gradient_penalty(
        self,
        critic: Callable[..., Any],
        x: Tensor,
        penalty: Any,
        *,
        labels: Any = None,
        judge: Any = None,
        reduce: str = "sum",
        judged: Callable[[Any], list[Tensor]] = _itself,
    ) -> Tensor:
        output, g, _ = _evaluated(critic, x, _tuple(labels), _number(judged, reduce))
        norm = g.flatten(1).norm(2, dim=1)
        total = _price(penalty, norm).mean()
        total.seen = [norm.detach(), *judged(output)]
        return total

    def generator_loss_from(self, total: Tensor, loss: str) -> Tensor:
        assert loss == "nonsaturating"
        return total.generator

    def explain(self, *_: Any, **__: Any) -> None:
        """Nothing is changed by it."""


def _tuple(labels: Any) -> tuple:
    return () if labels is None else labels if isinstance(labels, tuple) else (labels,)


def _number(judged: Callable[[Any], list[Tensor]], reduce: str) -> Callable[[Any, int], Tensor]:
    """The sum over samples of the number whose gradient is penalised."""

    def number(output: Any, samples: int) -> Tensor:
        rows = [t.reshape(samples, -1) for t in judged(output)]
        return sum((row.sum(1) if reduce == "sum" else row.mean(1)).sum() for row in rows)

    return number


def _evaluated(
    critic: Callable[..., Any], x: Tensor, rest: tuple, number: Callable[[Any, int], Tensor] | None
) -> tuple[Any, Any, Tensor]:
    """The outputs, the differentiable gradient of `number` with respect to each sample if it is wanted, the points."""
    x = x.detach()
    with torch.enable_grad():
        if number is None:
            return critic(x, *rest), None, x
        x.requires_grad_()
        output = critic(x, *rest)
        (g,) = torch.autograd.grad(number(output, len(x)), x, create_graph=True)
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
