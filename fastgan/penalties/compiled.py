"""The passes of one_pass under torch.compile.

TorchDynamo reads the critic's code and watches everything that it depends on (its guards, and those of `programs`), so
that a stale graph is never used. What it hands over is run through the tape once more, symbolically, which writes the
four passes down as one graph; that is cut where the loss comes in: F and X before, T and W after (`graphs`). The
backend compiles both. What T and W read of the critic's tensors is copied or watched, as the tape does it.
"""

import threading
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import Tensor, fx

from fastgan._torch_private import compile_graph, compiler_backend, compiler_backends
from fastgan.affine import NotAffineError
from fastgan.affine.memory import block_of
from fastgan.penalties.graphs import Graphs
from fastgan.penalties.modules import buffers_of
from fastgan.penalties.one_pass import OnTape, Recorded, power_of_two, unscaled
from fastgan.penalties.outputs import Form, Outputs
from fastgan.penalties.programs import CompilerError, Program, call_kind, in_short, program_of
from fastgan.penalties.returned import Returned, without_marks


def backend_of(compile: bool | str) -> str:
    """The name of the backend that the argument `compile` chooses.

    Raises:
        ValueError, TypeError: torch.compile has none of this name; it is no name.
    """
    backend = "inductor" if compile is True else compile
    if not isinstance(backend, str):
        raise TypeError(f"critic_loss: compile is {type(compile).__name__}, expected a bool or the name of a backend")
    if compiler_backend(backend) is None:
        names = ", ".join(compiler_backends())
        raise ValueError(
            f"critic_loss: compile is {backend!r}, expected True, False or a backend of torch.compile: {names}"
        )
    return backend


def recorded_by(
    compile: bool | str, outputs: Outputs, keep_graph: bool = False
) -> Callable[[Callable[..., Any], Tensor, Sequence[Any]], Recorded]:
    """The function (critic, x, rest) that runs F: on the tape, or compiled by the backend `compile`.

    Where the compiler cannot, the compiled one also runs on the tape.
    """
    on_tape = partial(OnTape, outputs=outputs, keep_graph=keep_graph)
    return partial(_recorded, outputs=outputs, on_tape=on_tape, backend=backend_of(compile)) if compile else on_tape


def _recorded(
    critic: Callable[..., Any],
    x: Tensor,
    rest: Sequence[Any],
    outputs: Outputs,
    on_tape: Callable[..., Recorded],
    backend: str,
) -> Recorded:
    """The network after F: compiled, or on its tape where the compiler cannot."""
    program = program_of(critic, _graphs_by(backend))

    def compiled() -> Recorded:
        return Compiled(program, critic, outputs, x, rest)

    return program.compiled_or_eager(call_kind(critic, x, *rest), compiled, lambda: on_tape(critic, x, rest))


def ordinary(
    critic: Callable[..., Any], outputs: Outputs, backend: str | None
) -> Callable[..., tuple[list[Tensor], Form]]:
    """The critic for samples without a penalty: the parts of its output; compiled as usual by the backend, if any."""

    def eager(x: Tensor, *rest: Any) -> tuple[list[Tensor], Form]:
        return outputs.parts(critic(x, *rest), len(x))

    def run(*args: Any) -> tuple[list[Tensor], Form]:
        assert backend is not None
        program = program_of(critic, _as_usual(backend))

        def compiled() -> tuple[list[Tensor], Form]:
            _HERE.parts = None
            found = program(critic, outputs, *args)
            handed_over, _HERE.parts = _HERE.parts, None  # kept no longer than this
            if handed_over is None:  # not one operation on a tensor
                return found
            parts, returned = handed_over
            form = returned.form_of(outputs, len(args[0]), found)
            return (parts, form) if found is None else found

        return program.compiled_or_eager(call_kind(critic, *args), compiled, lambda: eager(*args))

    return eager if backend is None else run


@cache
def _as_usual(backend: str) -> Callable[..., Callable[..., Any]]:
    def take(network: fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
        returned = Returned(network)
        compiled = compile_graph(backend, network, list(examples))

        def run(*inputs: Any) -> Any:
            outputs = compiled(*inputs)
            _HERE.parts = [outputs[i] for i in returned.indices], returned
            return outputs

        return run

    return take


class Compiled:
    """A network after a compiled F and X; implements `one_pass.Recorded`."""

    def __init__(
        self, program: Program, critic: Callable[..., Any], outputs: Outputs, x: Tensor, rest: Sequence[Any]
    ) -> None:
        x = x.detach().requires_grad_()
        request = _Request(x, critic, outputs.reduce, program.warn)
        previous, _HERE.request = getattr(_HERE, "request", None), request
        try:
            with torch.enable_grad():
                found = program(critic, outputs, x, *rest)
        finally:
            _HERE.request = previous
        if request.graphs is None:  # not one operation on a tensor
            raise NotAffineError("the output does not depend on the input")
        self.graphs, self.seed = request.graphs, request.graphs.seed
        self.form = request.graphs.returned.form_of(outputs, len(x), found)
        self.differentiable: list[Tensor] | None = None
        self.apart = self.graphs.several
        self.parts, self.g, self.kept = request.parts, request.g, request.kept
        self.beside: list[Tensor | None] = [None] * len(self.parts)
        self.leaf = request.anchor
        self.weights: list[Tensor]
        self.watched = [(t, t._version) for t in request.watched]
        self.inputs = request.weights
        self.versions = [t._version for t in self.inputs]

    def gradient(self, s: Tensor | None, slopes: Sequence[Tensor | None]) -> Tensor:
        gives = self.graphs.gives_without_loss
        if s is not None or slopes:
            gives = self.graphs.gives_with([slope is not None for slope in slopes])
        self._chosen = [i for i, given in enumerate(gives) if given]
        self.weights = [self.inputs[i] for i in self._chosen]
        return self.g

    def weight_gradients(
        self, u: Tensor, s: Tensor | None, slopes: Sequence[Tensor | None], factor: Tensor | None
    ) -> list[Tensor | None]:
        self._check_versions()
        accumulator = torch.promote_types(u.dtype, torch.float32)
        late_s = u.new_zeros(len(u), dtype=accumulator) if s is None else s
        of_loss = self._of_loss(u, slopes) if slopes else None
        if factor is not None:
            u, late_s = (u.float() * factor).to(u.dtype), late_s * factor
        found = self.graphs.late(self.kept, u, late_s)
        gradients = [None if g is None else _divide(g, self.seed, factor) for g in found]
        if of_loss is not None:
            gradients = [a if b is None else b if a is None else a + b for a, b in zip(gradients, of_loss, strict=True)]
        return [gradients[i] for i in self._chosen]

    def _of_loss(self, u: Tensor, slopes: Sequence[Tensor | None]) -> list[Tensor | None]:
        given = [slope for slope in slopes if slope is not None]
        factor = power_of_two(*given) if self.seed != 1 else None
        wide = []
        for slope, y in zip(slopes, self.parts, strict=True):
            accumulator = torch.promote_types(y.dtype, torch.float32)
            slope = torch.zeros_like(y, dtype=accumulator) if slope is None else slope.to(accumulator).reshape(y.shape)
            wide.append(slope if factor is None else slope * (factor * self.seed))
        found = self.graphs.of_loss(self.kept, u, wide)
        return [None if g is None else _divide(g, self.seed, factor) for g in found]

    def pull(self, slopes: Sequence[Tensor | None]) -> Tensor | None:
        return None

    def _check_versions(self) -> None:
        for i in self._chosen:
            weight, version = self.inputs[i], self.versions[i]
            if weight._version != version:
                raise RuntimeError(
                    f"a weight of shape {list(weight.shape)} was modified in place between critic_loss and "
                    "backward; call backward before the optimiser's step"
                )
        for constant, version in self.watched:
            if constant._version != version:
                raise RuntimeError(
                    f"a constant of shape {list(constant.shape)} that the critic read was modified in place between "
                    "critic_loss and backward"
                )


def _divide(gradient: Tensor, seed: float, factor: Tensor | None) -> Tensor:
    return unscaled({None: gradient}, seed, factor)[None]  # type: ignore[dict-item,index]


# --- between dynamo and the graphs ------------------------------------------------------------------------------------

_HERE = threading.local()


class _Request:
    """A call of a compiled network in this thread: its input, and what the graph found."""

    def __init__(self, x: Tensor, critic: Callable[..., Any], reduce: str, warn: Callable[[str], None]) -> None:
        self.x, self.critic, self.reduce, self.warn = x, critic, reduce, warn
        self.anchor = x.new_zeros(()).requires_grad_()
        """What tensors that the critic keeps are made of, as far as autograd knows."""
        self.graphs: Graphs | None = None
        self.parts: list[Tensor]
        self.g: Tensor
        self.weights: list[Tensor]
        self.kept: list[Tensor]
        self.watched: list[Tensor]

    def answer(self, graphs: Graphs, inputs: Sequence[Any]) -> Sequence[Any]:
        """Runs F and X; returns F's outputs."""
        outputs, self.g, self.kept = graphs.early(inputs)
        self.graphs, self.parts = graphs, [outputs[i].detach() for i in graphs.returned.indices]
        self.weights = [t for t, want in zip(inputs, graphs.wants, strict=True) if want]
        # Inductor returns what should be a copy of an input as the input itself, so that the memory is looked at.
        of_inputs = {block_of(t): j for j, t in enumerate(inputs) if isinstance(t, Tensor)}
        outputs = [o if i in graphs.views or block_of(o) not in of_inputs else o.clone() for i, o in enumerate(outputs)]
        of_outputs = {block_of(o): o for o in outputs}
        self.watched = []
        for i, kept in enumerate(self.kept):
            j = of_inputs.get(block_of(kept))
            if j is None:
                if block_of(kept) in of_outputs:
                    self.watched.append(of_outputs[block_of(kept)])
            elif not graphs.wants[j]:
                if j in graphs.written or self._is_copied(inputs[j]):
                    self.kept[i] = kept.clone()
                else:
                    self.watched.append(inputs[j])
        # Detached: PyTorch 2.15 gives views made where autograd is off, which it forbids to change in place afterwards.
        return [
            _NotDifferentiable.apply(o.detach(), self.anchor, i in graphs.views)
            if tracked and i not in graphs.returned.indices
            else o
            for i, (o, tracked) in enumerate(zip(outputs, graphs.tracked, strict=True))
        ]

    def _is_copied(self, constant: Tensor) -> bool:
        """Whether a constant is copied: samples, buffers, and tensors without a version counter are."""
        return constant is self.x or constant.is_inference() or block_of(constant) in self._buffers

    @cached_property
    def _buffers(self) -> set[int]:
        return {block_of(b) for b in buffers_of(self.critic)}


class _NotDifferentiable(torch.autograd.Function):
    """A tensor that the critic's forward has stored somewhere: it cannot be differentiated afterwards."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, anchor: Tensor, is_view: bool) -> Tensor:
        if is_view:
            return tensor.view_as(tensor)
        ctx.mark_dirty(tensor)  # by which it stays itself, and may be changed in place
        return tensor

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        raise RuntimeError(
            "critic_loss: a tensor that the critic's forward kept is differentiated, whose gradient compile=True does "
            "not know; leave compile out"
        )


@cache
def _graphs_by(backend: str) -> Callable[[fx.GraphModule, Sequence[Any]], Callable[..., Any]]:
    """The backend that dynamo calls with a graph, and whose result it calls with the inputs at every step."""

    def take(network: fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
        compiled: dict[Any, Graphs] = {}
        returned = Returned(network)
        without_marks(network)

        def run(*inputs: Any) -> Any:
            request: _Request = _HERE.request
            kind = _in_same_memory(inputs)
            if kind not in compiled:
                compiled[kind] = _graphs(network, returned, inputs, request, backend)
            return request.answer(compiled[kind], inputs)

        return run

    return take


def _in_same_memory(inputs: Sequence[Any]) -> tuple[int, ...]:
    """The groups of inputs that lie in the same memory, which dynamo does not guard."""
    first: dict[int, int] = {}
    return tuple(first.setdefault(block_of(t), i) if isinstance(t, Tensor) else -1 for i, t in enumerate(inputs))


def _graphs(
    network: fx.GraphModule, returned: Returned, inputs: Sequence[Any], request: _Request, backend: str
) -> Graphs:
    try:
        return Graphs(network, returned, inputs, request.x, request.reduce, backend, request.warn)
    except CompilerError:
        raise
    except Exception as error:  # the tape, which runs the critic next, says better what is wrong with it
        raise CompilerError(in_short(error)) from error
