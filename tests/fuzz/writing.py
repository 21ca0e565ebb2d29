"""A program as Python source, which is what runs, and what a failure prints."""

import textwrap

from tests.fuzz.around import use
from tests.fuzz.growing import Growth
from tests.fuzz.operations import OUTPUTS
from tests.fuzz.program import Program
from tests.fuzz.structures import STRUCTURES

OUTSIDE = "by a head that is called after forward"
"""An output of its own kind: forward returns features, and the user calls the head."""


def source(program: Program, growth: Growth) -> str:
    """The classes and functions of a program: Critic, data, use."""
    parts = [_critic(program, growth), "", _data(program), "", use(program)]
    if program.structure:
        parts += ["", "def judged(o):", f"    return {STRUCTURES[program.structure].judged}"]
    return "\n".join(parts)


def _critic(program: Program, growth: Growth) -> str:
    members = [*growth.members, *(["norms.spectral_norm_(self)"] if program.group else [])]
    init = ["super().__init__()", *members]
    lines = ["class Critic(nn.Module):", "    def __init__(self):", *_indented(init, 2)]
    arguments = program.arguments
    if program.output == OUTSIDE:
        body, (head,) = growth.lines[:-1], growth.lines[-1:]
        features = program.heads[0].refs[0]
        lines += [f"    def forward(self, {arguments}):", *_indented([*body, f"return {features}"], 2)]
        known = "" if features == "x" else f"{features}, "
        lines += [f"    def judge(self, {known}{arguments}):", *_indented([f"return {head.split(' = ', 1)[1]}"], 2)]
        return "\n".join(lines)
    returned = OUTPUTS[program.output].format(" + ".join(growth.returned))
    if program.structure:
        h = _features(growth)
        m = f"{h}.reshape(len({h}), -1)[:, None]"
        returned = STRUCTURES[program.structure].returns.format(y=returned, h=h, m=m)
    return "\n".join(
        [*lines, f"    def forward(self, {arguments}):", *_indented([*growth.lines, f"return {returned}"], 2)]
    )


def _features(growth: Growth) -> str:
    """The last tensor whose samples come first, of those that the heads were given to choose from."""
    fitting = [
        live.name
        for live in growth.lives.values()
        if live.name not in growth.returned and (live.dim, live.folded) == (0, 1) and not live.constant
    ]
    return fitting[-1]


def _data(program: Program) -> str:
    real = _batch(program, program.samples)
    fake = _batch(program, program.fakes)
    lines = [f"real = {real}", f"fake = 0.7 * {fake} + 0.2"]
    for name, n in (("", program.samples), ("fake_", program.fakes)):
        lines += [f"{name}y = torch.randint(4, ({n},))", f"{name}c = torch.rand({n}, 3, dtype=torch.float64) + 0.5"]
    lines += _laid_out(program)
    lines.append("return real, fake, y, c, fake_y, fake_c")
    return "\n".join(["def data():", *_indented(lines, 1)])


def _batch(program: Program, n: int) -> str:
    return f"torch.randn({', '.join(map(str, (n, *program.shape)))}, dtype=torch.float64)"


def _laid_out(program: Program) -> list[str]:
    layout = program.around.layout
    change = {
        "contiguous": "{0}",
        "channels last": "{0}.contiguous(memory_format=torch.channels_last)" if len(program.shape) == 3 else "{0}",
        "transposed": "{0}.transpose(0, -1).contiguous().transpose(0, -1)",
        "a slice": "torch.cat([{0}, {0}])[::2]"
        if program.samples == program.fakes
        else "torch.cat([{0}, {0}], 1)[:, :{0}.shape[1]]",
        "expanded": "{0}[:1].expand_as({0})",
        "with zeros": "F.relu({0})",
        "trained": "{0}.requires_grad_()",
    }[layout]
    lines = [f"{name} = {change.format(name)}" for name in ("real", "fake") if change != "{0}"]
    return [*lines, "fake = real"] if program.around.flow == "real is fake" else lines


def _indented(lines: list[str], depth: int) -> list[str]:
    return textwrap.indent("\n".join(lines), "    " * depth).splitlines()
