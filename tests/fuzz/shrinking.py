"""Makes a failing program smaller as long as it fails in the same way."""

import time
from collections.abc import Iterator
from dataclasses import fields, replace

from tests.fuzz.checking import Failure, check
from tests.fuzz.growing import DoesNotFitError, develop
from tests.fuzz.operations import HEADS
from tests.fuzz.program import Around, Gene, Program
from tests.fuzz.writing import source


def shrink(program: Program, failure: Failure, seconds: float = 15.0) -> tuple[Program, str, Failure]:
    """The smallest program that was found in the time, its source, and its failure.

    A failure of both one_pass and auto is shrunk as that of one_pass, which is run first.
    """
    end = time.monotonic() + seconds
    text = source(program, develop(program))
    progress = True
    while progress and time.monotonic() < end:
        progress = False
        for smaller in _smaller(program):
            if time.monotonic() > end:
                break
            found = _fails(smaller, failure)
            if found is not None:
                program, (text, failure) = smaller, found
                progress = True
                break
    return program, text, failure


def _fails(program: Program, failure: Failure) -> tuple[str, Failure] | None:
    try:
        growth = develop(program)
    except DoesNotFitError:
        return None
    text = source(program, growth)
    for found in check(program, text, only=failure.method).failures:
        if found.key == failure.key:
            return text, found
    return None


def _smaller(program: Program) -> Iterator[Program]:
    """Simpler programs, the boldest steps first."""
    around = program.around
    simplest = Around(change=around.change) if around.change else Around()
    if around != simplest:
        yield replace(program, around=simplest)
    yield from _without_genes(program)
    if program.structure:
        yield replace(program, structure="")
        yield replace(program, structure="a map")
        yield replace(program, structure="a logit and features")
    if program.output != "as it is":
        yield replace(program, output="as it is")
    for field in fields(Around):
        for simpler in _simpler(around, field.name):
            yield replace(program, around=simpler)
    for name, value in (
        ("group", False),
        ("dtype", "float32"),
        ("labels", "none"),
        ("labels", "classes"),
        ("fakes", program.samples),
        ("samples", 2),
    ):
        if getattr(program, name) != value and not (value == "classes" and program.labels == "none"):
            changed = replace(program, **{name: value})
            yield (
                replace(changed, fakes=changed.samples)
                if name == "samples" and program.fakes == program.samples
                else changed
            )
    for i, head in enumerate(program.heads):
        if head.operation != "linear_head":
            yield replace(program, heads=_with(program.heads, i, replace(head, operation="linear_head")))


def _simpler(around: Around, name: str) -> Iterator[Around]:
    value, default = getattr(around, name), getattr(Around(), name)
    if value == default:
        return
    yield replace(around, **{name: default})
    if isinstance(value, tuple) and len(value) > 1:
        for i in range(len(value)):
            yield replace(around, **{name: value[:i] + value[i + 1 :]})
    if name == "flow" and value != "accumulated":
        yield replace(around, flow="accumulated")
    if name == "penalties" and len(value) == 1:
        yield replace(around, penalties=("WGANGP(2.0)",))


def _without_genes(program: Program) -> Iterator[Program]:
    if len(program.heads) > 1:
        for i in range(len(program.heads)):
            yield replace(program, heads=_without(program.heads, i))
    used = {ref.split("_")[0] for gene in (*program.genes, *program.heads) for ref in gene.refs}
    unused = [i for i, gene in enumerate(program.genes) if f"h{gene.id}" not in used]
    if unused:
        yield replace(program, genes=tuple(gene for i, gene in enumerate(program.genes) if i not in unused))
    for i in reversed(range(len(program.genes))):
        yield _dropped(program, i)
    for i in reversed(range(len(program.genes))):  # another's input in the place of what it gets
        gene = program.genes[i]
        if gene.refs and gene.refs[0] != "x":
            yield replace(program, genes=_with(program.genes, i, replace(gene, refs=("x", *gene.refs[1:]))))


def _dropped(program: Program, i: int) -> Program:
    """Without a gene, whose input stands for its outputs."""
    gone = program.genes[i]
    instead = gone.refs[0]

    def mended(gene: Gene) -> Gene:
        own = f"h{gone.id}"
        return replace(
            gene, refs=tuple(instead if ref == own or ref.startswith(f"{own}_") else ref for ref in gene.refs)
        )

    return replace(
        program,
        genes=tuple(mended(gene) for gene in _without(program.genes, i)),
        heads=tuple(mended(gene) for gene in program.heads),
    )


def _without(genes: tuple[Gene, ...], i: int) -> tuple[Gene, ...]:
    return genes[:i] + genes[i + 1 :]


def _with(genes: tuple[Gene, ...], i: int, gene: Gene) -> tuple[Gene, ...]:
    return (*genes[:i], gene, *genes[i + 1 :])


assert "linear_head" in HEADS
