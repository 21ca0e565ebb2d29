"""Random programs from a seed.

By an own generator, not by hypothesis: a program takes a few milliseconds here, where drawing as many choices through
hypothesis takes longer than to run them, and 20,000 are wanted. What hypothesis would shrink is shrunk by
`shrinking`, which knows what a program is.
"""

import random
from dataclasses import replace

from tests.fuzz.around import FORMS, LAYOUTS, LOSSES, TERMS
from tests.fuzz.growing import DoesNotFitError, Growth, writing
from tests.fuzz.operations import HEADS, OPERATIONS, OUTPUTS
from tests.fuzz.operations.hooks import MODULE_HOOKS
from tests.fuzz.program import Around, Gene, Program
from tests.fuzz.structures import STRUCTURES
from tests.fuzz.writing import OUTSIDE

SHAPES = (
    (4,),
    (6,),
    (1,),
    (2,),
    (2, 8),
    (4, 6),
    (1, 6),
    (4, 1),
    (3, 5, 5),
    (4, 4, 6),
    (1, 6, 6),
    (2, 3, 4),
    (3, 1, 1),
    (1, 1, 1),
    (4, 1, 5),
    (2, 4, 4),
    (3, 6, 6),
    (4, 4, 4),
    (2, 6, 6),
    (1, 4, 4),
)

COMPILED = 0.02
"""The share of programs that are compiled as well."""

DTYPES = ("float32",) * 6 + ("float64", "float64", "bfloat16", "float16")


def generate(seed: str) -> tuple[Program, Growth]:
    """A program, and what was written of it."""
    rng = random.Random(seed)
    while True:
        try:
            return _generate(rng)
        except DoesNotFitError:
            continue


def _generate(rng: random.Random) -> tuple[Program, Growth]:
    samples = rng.choice((3, 2, 4, 3, 1, 5))
    program = Program(
        seed=rng.randrange(2**31),
        samples=samples,
        fakes=samples if rng.random() < 0.8 else rng.choice((1, 2, 3, 4)),
        shape=rng.choice(SHAPES),
        labels=rng.choice(("none", "none", "classes", "classes", "classes and numbers")),
        dtype=rng.choice(DTYPES),
        group=rng.random() < 0.1,
        compiled=rng.random() < COMPILED,
    )
    with writing():
        growth = Growth(program, rng)
        wanted = rng.choice((1, 2, 3) if program.compiled else (1, 2, 3, 4, 5, 6, 7, 8, 10, 12))
        genes = _genes(rng, growth, wanted, rng.random() < 0.75)
        heads = _heads(rng, growth)
    if not growth.trained():
        raise DoesNotFitError
    if "nn.utils." in "".join(growth.members):  # older norms hide the weights from a group
        program = replace(program, group=False)
    output = rng.choice((*["as it is"] * 6, *OUTPUTS, "a vector"))
    if rng.random() < 0.75 and output == "smooth":
        output = "as it is"
    if len(heads) == 1 and rng.random() < 0.07 and growth.lines[-1].startswith(f"h{heads[0].id} = "):
        output = OUTSIDE
    structure = ""
    if output in ("as it is", "scaled", "rectified", "smooth") and rng.random() < 0.3:
        structure = rng.choice(list(STRUCTURES))
    program = replace(program, genes=tuple(genes), heads=tuple(heads), output=output, structure=structure)
    return replace(program, around=_around(rng, program, growth)), growth


def _genes(rng: random.Random, growth: Growth, wanted: int, eligible: bool) -> list[Gene]:
    kinds = [kind for kind in OPERATIONS.values() if kind.eligible or not eligible]
    weights = [kind.weight for kind in kinds]
    if growth.program.compiled:  # graphs that are kept: above all they must not keep what changes
        weights = [
            w * {"state": 4, "hooks": 0, "autograd": 0.2}.get(k.family, 1) for w, k in zip(weights, kinds, strict=True)
        ]
    if growth.program.group:  # norms that are iterated together, of layers that not every forward pass uses
        weights = [w * 8 if k.name == "branch_of_layers" else w for w, k in zip(weights, kinds, strict=True)]
    genes: list[Gene] = []
    for _ in range(6 * wanted):
        if len(genes) == wanted:
            break
        name = rng.choices(kinds, weights)[0].name
        try:
            genes.append(growth.add(Gene(len(genes), name, rng.randrange(2**31))))
        except DoesNotFitError:
            continue
    return genes


def _heads(rng: random.Random, growth: Growth) -> list[Gene]:
    """Of one to three tensors, those first that nothing has used yet."""
    heads: list[Gene] = []
    kinds = list(HEADS.values())
    weights = [kind.weight for kind in kinds]
    wanted = rng.choice((1, 1, 2, 3))
    for _ in range(30):
        if len(heads) == wanted:
            return heads
        name = rng.choices(kinds, weights)[0].name
        try:
            heads.append(growth.add(Gene(50 + len(heads), name, rng.randrange(2**31)), HEADS))
        except DoesNotFitError:
            continue
    if not heads:
        raise DoesNotFitError
    return heads


# --- the user ---------------------------------------------------------------------------------------------------------

_FLOWS = {
    "once": 8,
    "autograd.grad": 1,
    "two calls": 1.5,
    "retained": 0.7,
    "scaled": 0.7,
    "accumulated": 1.2,
    "training": 1.5,
    "penalty alone": 1.2,
    "lazy penalty": 0.7,
    "real is fake": 0.5,
    "generated": 0.8,
    "first without gradient": 0.6,
    "first in evaluation": 0.5,
    "two batches": 0.7,
}

_CHANGING = tuple(flow for flow in _FLOWS if flow not in ("accumulated", "training"))
_SEVERAL = ("two calls", "accumulated", "training")


def _around(rng: random.Random, program: Program, growth: Growth) -> Around:
    flow = rng.choices(list(_FLOWS), list(_FLOWS.values()))[0]
    often = program.compiled  # see _genes
    if often:
        flow = rng.choice(("once", "once", "penalty alone", "two calls", "accumulated", "training"))
    form = rng.choice(("module",) * 12 + tuple(FORMS)[:-1] * 1 + (("data parallel",) if rng.random() < 0.2 else ()))
    penalties = _penalties(rng, program, flow)
    terms: list[str] = []
    if program.structure:
        form = "lambda" if form == "doubled" else form
    if rng.random() < 0.15:
        term = rng.choice(list(TERMS.values()))
        terms += [term] if not program.structure or "r * T" not in term else []
    if growth.terms and rng.random() < 0.7:
        terms += [f"critic.{name}" for name in growth.terms]
    if growth.features and rng.random() < 0.7:
        terms += [f"critic.{name}" for name in growth.features]
    layouts = LAYOUTS if not growth.noisy else ("contiguous", "with zeros", "trained")
    layout = rng.choice(layouts) if rng.random() < 0.4 else "contiguous"
    losses = LOSSES if program.samples == program.fakes else [s for s in LOSSES if "relativistic" not in s]
    if flow == "generated" and layout == "trained":
        layout, flow = "contiguous", "once"
    return Around(
        form=form,
        flow=flow,
        loss=rng.choice(losses),
        terms=tuple(terms),
        penalties=tuple(penalties),
        change=_change(rng, program, growth) if rng.random() < 0.12 + 0.5 * often and flow in _CHANGING else "",
        late=_late(rng, growth) if flow in _SEVERAL and rng.random() < 0.5 else "",
        early=_early(rng, program, growth),
        layout=layout,
        explained=rng.random() < 0.1,
    )


def _penalties(rng: random.Random, program: Program, flow: str) -> list[str]:
    weight = lambda: rng.choice(("2.0", "10.0", "0.5"))  # noqa: E731
    target = lambda: rng.choice(("1.0", "1.0", "0.0", "0.05"))  # noqa: E731
    sided = lambda: rng.choice((True, False))  # noqa: E731
    r1, r2 = f"R1({weight()})", f"R2({weight()})"
    wgan_gp = f"WGANGP({weight()}, {target()}, {sided()})"
    dragan = f"DRAGAN({weight()}, {target()}, {rng.choice((0.5, 0.1))}, {sided()})"
    options = [
        [r1],
        [r1],
        [r1, r2],
        [r2],
        [r1, r2, wgan_gp],
        [dragan],
        [wgan_gp],
        [r1, wgan_gp],
        [r2, dragan, wgan_gp],
        [r1, "R1(0.7)"],
    ]
    chosen = rng.choice(options)
    if program.compiled and rng.random() < 0.7:  # what is not penalised goes through autograd, which looks after itself
        chosen = [r1, r2]
    if program.samples != program.fakes:
        chosen = [p for p in chosen if "WGAN" not in p] or [r1]
    if flow == "generated":
        chosen = [*chosen, r2] if not any(p.startswith("R2") for p in chosen) else chosen
    if flow in ("penalty alone", "lazy penalty"):
        chosen = [rng.choice((r1, r2, wgan_gp))]
    if flow == "once" and rng.random() < 0.03:
        chosen = []
    return chosen


def _change(rng: random.Random, program: Program, growth: Growth) -> str:
    """Something that the passes have read, changed in place before backward."""
    options = ["real.mul_(1.5)", "fake.add_(0.3)"]
    if program.labels != "none":
        options += ["y.add_(1).remainder_(4)"] * 3
    if program.labels == "classes and numbers":
        options += ["c.mul_(1.5)"] * 2
    if not program.group:
        for name, _ in growth.critic.named_parameters():
            options += [f"critic.get_parameter({name!r}).{rng.choice(('mul_(1.5)', 'add_(0.2)', 'neg_()'))}"]
        for name, b in growth.critic.named_buffers():
            change = "add_(1)" if not b.is_floating_point() else rng.choice(("mul_(1.5)", "add_(0.2)"))
            options += [f"critic.get_buffer({name!r}).{change}"] * 2
    return rng.choice(options)


def _late(rng: random.Random, growth: Growth) -> str:
    """After the first call: what a user may do to a critic between two steps."""
    options = ["critic.eval()", "critic.requires_grad_(True)"]
    modules = [
        name
        for name, m in growth.critic.named_modules()
        if name and "." not in name and callable(getattr(m, "forward", None))
    ]
    if modules:
        options += [f"critic.{name}.{rng.choice(MODULE_HOOKS)}" for name in modules] * 2
        options += [f"critic.{name}.eval()" for name in modules]
    for name, p in growth.critic.named_parameters():
        options.append(f"critic.get_parameter({name!r}).requires_grad_({not p.requires_grad})")
        if "." not in name:
            options.append(f"critic.{name} = nn.Parameter(critic.{name}.detach() * 1.5)")
    return rng.choice(options)


_PARAMETER_HOOKS = (
    "register_hook(lambda v: None if v is None else 0.5 * v)",
    "register_hook(lambda v: None if v is None else v.clamp(-0.01, 0.01))",
    "register_post_accumulate_grad_hook(halve)",
)


def _early(rng: random.Random, program: Program, growth: Growth) -> tuple[str, ...]:
    """Before the first call: frozen parameters, hooks of parameters and modules."""
    if program.group:
        return ()
    statements = []
    named = [(name, p) for name, p in growth.critic.named_parameters() if p.requires_grad]
    for name, _ in named:
        if rng.random() < 0.1:
            statements.append(f"critic.get_parameter({name!r}).requires_grad_(False)")
        elif rng.random() < 0.03:
            statements.append(f"critic.get_parameter({name!r}).{rng.choice(_PARAMETER_HOOKS)}")
    modules = [name for name, _ in growth.critic.named_children()]
    if modules and rng.random() < 0.05:
        statements.append(f"critic.{rng.choice(modules)}.{rng.choice(MODULE_HOOKS)}")
    if rng.random() < 0.02:
        statements.append(f"critic.{rng.choice(MODULE_HOOKS)}")
    if rng.random() < 0.05:
        statements.append("critic.eval()")
    if program.labels == "classes and numbers" and rng.random() < 0.3:
        statements.append(_ONE_TABLE)
    return tuple(statements)


_ONE_TABLE = "\n".join(
    (
        "table = torch.cat([real.flatten(1), c], 1)  # whose columns share their memory",
        "real, c = table[:, :-3].unflatten(1, real.shape[1:]), table[:, -3:]",
    )
)
