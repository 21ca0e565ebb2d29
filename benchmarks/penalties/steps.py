"""The implementations of the critic's step: forward passes, loss, penalties, backward; no optimiser.

Each deposits the gradients in the critic's parameters (and the simultaneous ones in the fakes).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.penalties.case import Subject
from benchmarks.penalties.critics import maps
from fastgan.ops import interpolation_weights
from fastgan.penalties import R1, R2, WGANGP, CriticLoss, Penalty, critic_loss, generator_loss_from

Output = Tensor | list[Tensor] | tuple[Tensor, ...]
Critic = Callable[[Tensor], Output]

PLAIN, JOINT, SEPARATE, LEAN, ONE_PASS = "plain", "joint", "separate", "lean", "one_pass"
PLAIN_ALONE = "plain, alone"
BOTH_JOINT, BOTH = "joint + generator", "simultaneous"
PLAIN_COMPILED, ONE_PASS_COMPILED = "plain compiled", "one_pass compiled"


def plain(subject: Subject) -> None:
    """The step without penalties."""
    _plain(subject, subject.critic)


def plain_compiled(subject: Subject) -> None:
    _plain(subject, subject.compiled)


def _plain(subject: Subject, critic: Critic) -> None:
    with subject.precision():
        loss = _loss(subject, critic(subject.real), critic(subject.fake.detach()))
    loss.backward()


def _loss(subject: Subject, real: Output, fake: Output) -> Tensor:
    """The objective's, added up over the critic's outputs."""
    pairs = zip(maps(real), maps(fake), strict=True)
    return torch.stack([subject.objective.loss(*pair) for pair in pairs]).sum()


def joint(subject: Subject) -> None:
    """The textbook: the gradient with create_graph, at logits that the loss needs anyway, and one backward pass."""
    critic, objective = subject.critic, subject.objective
    with subject.precision(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        points = {"real": subject.real.detach(), "fake": subject.fake.detach()}
        outputs: dict[str, Output] = {}
        terms = []
        for at, x in points.items():
            penalty = next((p for p in objective.penalties if p.at == at), None)
            x = x.requires_grad_() if penalty else x
            outputs[at] = critic(x)
            if penalty:
                terms.append(_cost(penalty, outputs[at], x))
        total = _loss(subject, outputs["real"], outputs["fake"])
        terms += _penalties(subject, [p for p in objective.penalties if p.at not in points])
        for term in terms:
            total = total + term
    total.backward()


def separate(subject: Subject) -> None:
    """The usual user code: the loss's backward pass, then the penalties with passes of their own."""
    plain(subject)
    with subject.precision(), sdpa_kernel(SDPBackend.MATH):
        total = torch.stack(_penalties(subject, list(subject.objective.penalties))).sum()
    total.backward()


def _penalties(subject: Subject, penalties: list[Penalty]) -> list[Tensor]:
    """Each with its own forward pass."""
    values = []
    for penalty in penalties:
        x = _points(penalty, subject.real, subject.fake.detach()).requires_grad_()
        values.append(_cost(penalty, subject.critic(x), x))
    return values


def _points(penalty: Penalty, real: Tensor, fake: Tensor) -> Tensor:
    if isinstance(penalty, R1):
        return real.detach()
    if isinstance(penalty, R2):
        return fake.detach()
    # The numbers that fastgan draws, so that all implementations differentiate at the same points.
    seed = torch.randint(2**62, (1,), device=real.device)
    e = interpolation_weights(seed, len(real), real.device).to(real.dtype).view(-1, *[1] * (real.ndim - 1))
    return e * real + (1 - e) * fake


def _cost(penalty: Penalty, output: Output, x: Tensor) -> Tensor:
    number = torch.stack([each.sum() for each in maps(output)]).sum()
    (g,) = torch.autograd.grad(number, x, create_graph=True)
    squares = g.square().flatten(1).sum(1)
    if isinstance(penalty, WGANGP):
        return penalty.weight * (squares.sqrt() - penalty.target).square().mean()
    assert isinstance(penalty, (R1, R2))
    return penalty.gamma / 2 * squares.mean()


def lean(subject: Subject) -> None:
    _fastgan(subject, subject.fake.detach(), "double_backward").backward()


def one_pass(subject: Subject) -> None:
    _fastgan(subject, subject.fake.detach(), "one_pass").backward()


def one_pass_compiled(subject: Subject) -> None:
    _fastgan(subject, subject.fake.detach(), "one_pass", compile=True).backward()


def simultaneous(subject: Subject) -> None:
    """The generator's gradient at the fakes as well, from the critic's step."""
    total = _fastgan(subject, subject.fake, "one_pass")
    of_generator = generator_loss_from(total)  # before: a map's needs the tape
    total.backward()
    of_generator.backward()


def joint_and_generator(subject: Subject) -> None:
    """The generator's gradient at the fakes as well, from a pass of its own through the frozen critic."""
    joint(subject)
    parameters = [p for p in subject.critic.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    with subject.precision():
        outputs = maps(subject.critic(subject.fake))
        loss = torch.stack([subject.objective.generator_loss(each) for each in outputs]).sum()
    loss.backward()
    for parameter in parameters:
        parameter.requires_grad_()


def _fastgan(subject: Subject, fake: Tensor, method: str, **more: bool) -> CriticLoss:
    objective = subject.objective
    with subject.precision():
        return critic_loss(
            subject.critic,
            subject.real,
            fake,
            loss=objective.fastgan_loss,
            penalties=objective.penalties,
            method=method,
            **more,
        )


@dataclass(frozen=True)
class Step:
    """A way to take the step.

    Attributes:
        truth: whose float64 gradients it must have.
        yardstick: whose errors in the same dtype its own are held against.
        main_only: measured with R1 and R2 only.
        compiled: by torch.compile.
        own_convolutions: its forward pass is by fastgan's convolutions, which round otherwise than PyTorch's.
        alone: timed in a process of its own that runs none of fastgan's code, as PyTorch's users have it: with malloc
            as it is by default (fastgan/allocation.py). On the CPU only.
    """

    run: Callable[[Subject], None]
    truth: str
    yardstick: str
    main_only: bool = False
    compiled: bool = False
    own_convolutions: bool = False
    alone: bool = False

    @property
    def rounds_otherwise(self) -> bool:
        return self.compiled or self.own_convolutions


STEPS: dict[str, Step] = {
    PLAIN: Step(plain, PLAIN, PLAIN),
    PLAIN_ALONE: Step(plain, PLAIN, PLAIN, main_only=True, alone=True),
    JOINT: Step(joint, JOINT, JOINT),
    SEPARATE: Step(separate, JOINT, JOINT),
    LEAN: Step(lean, JOINT, JOINT, own_convolutions=True),
    ONE_PASS: Step(one_pass, JOINT, JOINT),
    BOTH_JOINT: Step(joint_and_generator, BOTH_JOINT, BOTH_JOINT, main_only=True),
    BOTH: Step(simultaneous, BOTH_JOINT, BOTH_JOINT, main_only=True),
    PLAIN_COMPILED: Step(plain_compiled, PLAIN, PLAIN, main_only=True, compiled=True),
    ONE_PASS_COMPILED: Step(one_pass_compiled, JOINT, JOINT, main_only=True, compiled=True),
}
"""In the order of the tables; a yardstick comes before what is held against it."""


def reason_missing(name: str, subject: Subject) -> str | None:
    """Why an implementation cannot be measured on a subject; None if it can."""
    if name == PLAIN_ALONE and subject.real.device.type != "cpu":
        return "PyTorch's allocator of a GPU is the same in every process"
    if name == ONE_PASS_COMPILED and "compile" not in inspect.signature(critic_loss).parameters:
        return "fastgan.critic_loss has no argument compile"
    if name in (ONE_PASS, ONE_PASS_COMPILED, BOTH) and not subject.affine:
        return "the critic is not piecewise affine: it is differentiated twice"
    if name in (BOTH, BOTH_JOINT) and subject.buffers:
        return "another forward pass may change the critic's buffers, and be of another function"
    return None
