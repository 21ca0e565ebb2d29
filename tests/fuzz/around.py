"""Ways to use a critic: wrappers, losses, penalties, and changes between the steps."""

from tests.fuzz.program import Program
from tests.fuzz.structures import STRUCTURES

FORMS: dict[str, str] = {
    "module": "critic",
    "lambda": "lambda {a}: critic({a})",
    "partial": "functools.partial(applied, critic)",
    "partial of the module": "functools.partial(critic)",
    "forward": "critic.forward",
    "method": "Called(critic).judge",
    "object": "Called(critic)",
    "object with slots": "Slotted(critic)",
    "closure": "through({{'critic': critic}})",
    "doubled": "lambda {a}: 2 * critic({a})",
    "data parallel": "nn.DataParallel(critic)",
}
"""How the critic is handed over; written anew in each call."""

LAYOUTS = ("contiguous", "channels last", "transposed", "a slice", "expanded", "with zeros", "trained")

LOSSES = (
    "'nonsaturating'",
    "'hinge'",
    "'wasserstein'",
    "'relativistic_pairing'",
    "lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean()",
    "lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean()",
    "lambda r, f: (torch.cat([r, f]).softmax(0) ** 2).sum() + r.mean() * f.square().mean()",
    "lambda r, f: f.mean()",
    "lambda r, f: (r - 1).square().sum() + f.square().sum()",
)

TERMS = {
    "temperature": "F.softplus(-r * T).mean() + F.softplus(f / T).mean()",
    "l2": "0.1 * sum((p * p).sum() for p in critic.parameters())",
    "l1 of T": "T.abs() * 0.1",
}
"""What a loss may depend on beside its arguments; further ones are attributes that the critic's forward sets."""


def use(program: Program) -> str:
    """The user's function."""
    around = program.around
    lines = list(around.early)
    if "T" in " ".join(around.terms):
        lines += ["T = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))", "see.leaf('T', T)"]
    if around.explained:
        lines.append(f"api.explain({_handed_over(program)}, real{_labels(program)}{_options(program)})")
    lines += FLOWS[around.flow](program)
    return "\n".join(
        [
            "def use(critic, api, real, fake, y, c, fake_y, fake_c, see):",
            *("    " + line for line in "\n".join(lines).splitlines()),
        ]
    )


def call(program: Program, penalties: str | None = None) -> str:
    """A call of critic_loss."""
    around = program.around
    loss = around.loss
    if program.structure:
        loss = _of_structure(program)
    elif around.terms:
        first = loss if loss.startswith("lambda r, f: ") else LOSSES[4]
        loss = " + ".join([first, *around.terms])
    given = penalties if penalties is not None else f"[{', '.join(around.penalties)}]"
    labels = _labels(program)
    if labels and (program.fakes != program.samples or program.seed % 2):
        labels += f", fake_labels={_values(program, 'fake_')}"
    arguments = f"{_handed_over(program)}, real, fake, loss={loss}, penalties={given}{labels}{_options(program)}"
    return f"api.critic_loss({arguments})"


def penalty_call(program: Program) -> str:
    arguments = f"{_handed_over(program)}, real, {program.around.penalties[0]}{_labels(program)}{_options(program)}"
    return f"api.gradient_penalty({arguments})"


def _options(program: Program) -> str:
    return STRUCTURES[program.structure].options() if program.structure else ""


def _of_structure(program: Program) -> str:
    """The loss of each judged tensor, with terms of others."""
    loss, terms = program.around.loss, list(program.around.terms)
    extra = STRUCTURES[program.structure].extra
    if extra and program.seed % 2:
        terms.append(extra)
    if not terms and not loss.startswith("lambda"):
        return loss
    each = loss if loss.startswith("lambda") else LOSSES[4]
    return " + ".join([f"lambda r, f: sum(({each})(p, q) for p, q in zip(judged(r), judged(f)))", *terms])


def _handed_over(program: Program) -> str:
    a = program.arguments
    if program.output.startswith("by a head"):
        known = "" if program.heads[0].refs[0] == "x" else f"critic({a}), "
        return f"lambda {a}: critic.judge({known}{a})"
    return FORMS[program.around.form].format(a=a)


def _values(program: Program, prefix: str = "") -> str:
    return f"{prefix}y" if program.labels == "classes" else f"({prefix}y, {prefix}c)"


def _labels(program: Program) -> str:
    return "" if program.labels == "none" else f", labels={_values(program)}"


# --- flows ------------------------------------------------------------------------------------------------------------


def _change(program: Program) -> list[str]:
    if not program.around.change:
        return []
    return ["if CHANGED:", "    with torch.no_grad():", f"        {program.around.change}"]


def _once(program: Program) -> list[str]:
    return [f"total = {call(program)}", "see(total)", *_change(program), "total.backward()"]


def _no_backward(program: Program) -> list[str]:
    change = _change(program)
    inputs = "[p for p in critic.parameters() if p.requires_grad]"
    return [
        f"total = {call(program)}",
        "see(total)",
        *change,
        f"see.gradients(torch.autograd.grad(total, {inputs}, allow_unused=True))",
    ]


def _two_calls(program: Program) -> list[str]:
    late = [program.around.late] if program.around.late else []
    return [
        f"first = {call(program)}",
        "see(first)",
        *late,
        f"second = {call(program)}",
        "see(second)",
        *_change(program),
        "(first + 0.5 * second).backward()",
    ]


def _retained(program: Program) -> list[str]:
    return [
        f"total = {call(program)}",
        "see(total)",
        "total.backward(retain_graph=True)",
        *_change(program),
        "total.backward()",
    ]


def _scaled(program: Program) -> list[str]:
    return [f"total = {call(program)}", "see(total)", *_change(program), "(3 * total - 1).backward()"]


def _accumulated(program: Program) -> list[str]:
    late = [program.around.late] if program.around.late else []
    once = [f"total = {call(program)}", "see(total)", "total.backward()"]
    return [*once, *late, *once]


def _training(program: Program) -> list[str]:
    late = [f"if step == 1: {program.around.late}"] if program.around.late else []
    body = [*late, f"total = {call(program)}", "see(total)", "total.backward()", "descend(critic)"]
    return ["for step in range(3):", *("    " + line for line in body)]


def _penalty_alone(program: Program) -> list[str]:
    return [f"total = {penalty_call(program)}", "see(total)", *_change(program), "total.backward()"]


def _lazy_penalty(program: Program) -> list[str]:
    return [
        f"total = {call(program, '[]')}",
        "see(total)",
        f"more = {penalty_call(program)}",
        "see(more)",
        *_change(program),
        "(total + more).backward()",
    ]


def _real_is_fake(program: Program) -> list[str]:
    return _once(program)


def _generated(program: Program) -> list[str]:
    return [
        "G = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))",
        "see.leaf('G', G)",
        "fake = fake.detach() * G",
        f"total = {call(program)}",
        "see(total)",
        *(
            ["of_generator = api.generator_loss_from(total, 'nonsaturating')", "total.backward()"]
            if program.structure or program.output == "two numbers"
            else ["total.backward()", "of_generator = api.generator_loss_from(total, 'nonsaturating')"]
        ),
        "of_generator.backward()",
    ]


def _first_without_gradient(program: Program) -> list[str]:
    return ["with torch.no_grad():", f"    see({call(program)})", *_once(program)]


def _first_in_evaluation(program: Program) -> list[str]:
    return ["critic.eval()", f"see({call(program)})", "critic.train()", *_once(program)]


def _two_batches(program: Program) -> list[str]:
    """The last batch of an epoch is smaller."""
    return [
        *_accumulated(program),
        "n = max(1, len(real) - 1)",
        "real, fake, y, c, fake_y, fake_c = (t[:n] for t in (real, fake, y, c, fake_y, fake_c))",
        *_once(program),
    ]


FLOWS = {
    "once": _once,
    "autograd.grad": _no_backward,
    "two calls": _two_calls,
    "retained": _retained,
    "scaled": _scaled,
    "accumulated": _accumulated,
    "training": _training,
    "penalty alone": _penalty_alone,
    "lazy penalty": _lazy_penalty,
    "real is fake": _real_is_fake,
    "generated": _generated,
    "first without gradient": _first_without_gradient,
    "first in evaluation": _first_in_evaluation,
    "two batches": _two_batches,
}
