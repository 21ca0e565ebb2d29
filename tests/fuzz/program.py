"""The data of a random program, which can be repeated, shrunk and printed.

A program is a critic (genes, each of which becomes a few lines of Python) and what a user does with it (`Around`). The
lines follow from the genes (`growing.develop`), so that a gene can be left out and the others written anew.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gene:
    """One operation of the critic.

    Attributes:
        id: names its outputs (h3) and its parts (self.m3).
        operation: a name in `operations.OPERATIONS`.
        seed: of everything that the operation chooses by itself.
        refs: what it took of the rest of the program, in the order in which it asked: its input, other tensors, shared
            parts. Empty until the gene was first written.
    """

    id: int
    operation: str
    seed: int
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Around:
    """What the user does: source text, each a simple expression or statement, or the name of a way to proceed.

    Attributes:
        form: how the critic is handed over (`around.FORMS`).
        flow: which calls are made, and what is done with the result (`around.FLOWS`).
        loss: an expression for the `loss` argument.
        terms: expressions that the loss adds, of other trainable things than its arguments.
        penalties: expressions.
        change: a statement between critic_loss and backward that changes something in place; "" for none.
        late: a statement after the first call; "" for none.
        early: statements before the first call (parameters' hooks, modules' hooks, frozen parameters).
        layout: of the batches in memory (`around.LAYOUTS`).
        explained: whether `explain` is called first.
    """

    form: str = "module"
    flow: str = "once"
    loss: str = "'nonsaturating'"
    terms: tuple[str, ...] = ()
    penalties: tuple[str, ...] = ("R1(2.0)",)
    change: str = ""
    late: str = ""
    early: tuple[str, ...] = ()
    layout: str = "contiguous"
    explained: bool = False


@dataclass(frozen=True)
class Program:
    """A critic, its batches, and a user.

    Attributes:
        seed: of weights and data.
        samples, fakes: sizes of the two batches.
        shape: of a sample.
        labels: what the critic is given beside a batch: "none", "classes" or "classes and numbers".
        dtype: torch's default dtype while the program runs; its own numbers are float64.
        genes: the critic, in the order in which it is run.
        heads: what makes one number per sample of its last tensors; their results are added.
        output: how their sum is returned (`operations.heads.OUTPUTS`).
        structure: what it is returned in (`structures.STRUCTURES`); "" for nothing.
        group: whether every layer gets a spectral norm by `spectral_norm_`.
        compiled: whether it is run through torch.compile as well, which takes a second.
        around: the user.
    """

    seed: int
    samples: int
    fakes: int
    shape: tuple[int, ...]
    labels: str = "none"
    dtype: str = "float32"
    genes: tuple[Gene, ...] = ()
    heads: tuple[Gene, ...] = ()
    output: str = "as it is"
    structure: str = ""
    group: bool = False
    compiled: bool = False
    around: Around = field(default_factory=Around)

    @property
    def arguments(self) -> str:
        """The critic's, as Python writes them."""
        return {"none": "x", "classes": "x, y", "classes and numbers": "x, y, c"}[self.labels]
