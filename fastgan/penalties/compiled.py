"""F, X, T and W of a critic as two graphs for torch.compile.

TorchDynamo reads the critic's code and watches everything that it depends on (its guards), so that a stale graph is
never used. What it hands over is run through the tape once more, symbolically, which writes the four passes down as one
graph; that is cut where the loss comes in: F and X before, T and W after. Inductor compiles both.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fastgan.affine import NotAffineError, record
from fastgan.penalties.one_pass import divided, seed_of

KEPT = 16
"""Compiled critics that are kept, the most recently used; each keeps its network alive."""


class Compiled:
    """A network after a compiled F and X; implements `one_pass.Recorded`."""

    def __init__(self, critic: Callable[..., Tensor], x: Tensor, rest: Sequence[Any], backend: str) -> None:
        _Request.current = request = _Request(x, backend)
        try:
            self.logits = _program(critic, _backend, fullgraph=True)(x, *rest)
        finally:
            _Request.current = None
        if request.graphs is None:
            raise RuntimeError("compile=True: the critic ran without its graph; expected torch.compile to be enabled")
        graphs = request.graphs
        if graphs.output is not None and request.outputs[graphs.output] is not self.logits:
            raise NotAffineError("the compiled critic returns something else than its graph's output")
        self.logits, self.leaf = self.logits.detach(), x  # of the graph of the critic's activations nothing is left
        self.graphs, self.weights, self.seed = graphs, request.weights, graphs.seed
        self.g, self.kept = request.g, request.kept

    def gradient(self, s: Tensor | None) -> Tensor:
        return self.g

    def weight_gradients(self, u: Tensor, s: Tensor | None, factor: Tensor | None) -> list[Tensor | None]:
        late_s = u.new_zeros(len(u), dtype=torch.promote_types(u.dtype, torch.float32)) if s is None else s
        if factor is not None:
            u, late_s = (u.float() * factor).to(u.dtype), late_s * factor
        with torch.no_grad():
            found = self.graphs.late(*self.kept, u, late_s)
        return [None if g is None else _divide(g, self.seed, factor) for g in found]


def _divide(gradient: Tensor, seed: float, factor: Tensor | None) -> Tensor:
    return divided({None: gradient}, seed, factor)[None]  # type: ignore[dict-item,index]


class _Request:
    """What is asked of the graph that dynamo is about to run, and its answer."""

    current: "_Request | None" = None

    def __init__(self, x: Tensor, backend: str) -> None:
        self.x, self.backend = x, backend
        self.graphs: _Graphs | None = None
        self.outputs: Sequence[Any] = ()
        self.weights: list[Tensor] = []
        self.g: Tensor
        self.kept: Sequence[Tensor] = ()


class _Graphs:
    """The two compiled graphs of one network at one set of shapes."""

    def __init__(self, network: fx.GraphModule, inputs: Sequence[Any], x: Tensor, backend: str) -> None:
        self.place = next((i for i, t in enumerate(inputs) if t is x), None)
        if self.place is None:
            raise NotAffineError("the output does not depend on the input")
        self.wants = [isinstance(t, Tensor) and t.requires_grad for t in inputs]
        self.output: int | None = None
        self.seed = 1.0
        whole = self._trace(network, inputs)
        early, late = _cut(whole, len(inputs), sum(self.wants))
        self.early = torch.compile(early, backend=backend, dynamic=False)
        self.late = torch.compile(late, backend=backend, dynamic=False)

    def _trace(self, network: fx.GraphModule, inputs: Sequence[Any]) -> fx.GraphModule:
        """(inputs, u, s) -> the network's outputs, g, and the gradient of each input that wants one, as one graph."""
        from torch.fx.experimental.proxy_tensor import make_fx

        def step(inputs: list[Any], u: Tensor, s: Tensor) -> Any:
            leaves = [t.detach().requires_grad_() if want else t for t, want in zip(inputs, self.wants, strict=True)]
            outputs: Sequence[Any] = ()

            def run(x: Tensor) -> Tensor:
                nonlocal outputs
                outputs = network(*(x if i == self.place else t for i, t in enumerate(leaves)))
                self.output = _logits(outputs, len(x))
                return outputs[self.output]

            y, tape = record(run, leaves[self.place], plain=True)  # type: ignore[index]
            self.seed = seed_of(tape)
            g, found = tape.gradient(torch.full_like(y, self.seed), s)
            for slot, gradient in tape.weight_gradients(u, s).items():
                found[slot] = found[slot] + gradient if slot in found else gradient
            wanted = [t for t, want in zip(leaves, self.wants, strict=True) if want]
            gradients = torch.autograd.grad(
                [slot.tensor for slot in found], wanted, list(found.values()), allow_unused=True
            )
            detached = [o.detach() if isinstance(o, Tensor) else o for o in outputs]
            return detached, g, list(gradients)

        x = inputs[self.place]  # type: ignore[index]
        s = x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        with torch.enable_grad():
            return make_fx(step, tracing_mode="fake", _allow_non_fake_inputs=True)(list(inputs), torch.empty_like(x), s)


def _logits(outputs: Sequence[Any], samples: int) -> int:
    """Which of a graph's outputs is the critic's; others are attributes that its code sets."""
    for i, output in enumerate(outputs):
        if isinstance(output, Tensor) and output.numel() == samples and output.requires_grad:
            return i
    raise NotAffineError("no output has one number for each sample")


def _cut(whole: fx.GraphModule, inputs: int, weights: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cuts a graph (inputs, u, s) -> (outputs, g, gradients) into what does not depend on u and s, and the rest.

    Returns:
        early: inputs -> (outputs, g, kept), and late: (*kept, u, s) -> gradients.
    """
    nodes = list(whole.graph.nodes)
    placeholders = [n for n in nodes if n.op == "placeholder"]
    late = set(placeholders[inputs:])
    for node in nodes:
        if node.op not in ("placeholder", "output") and any(parent in late for parent in node.all_input_nodes):
            late.add(node)
    results = list(next(n for n in nodes if n.op == "output").args[0])
    outputs, g, gradients = results[: -weights - 1], results[-weights - 1], results[len(results) - weights :]
    used = [n for n in gradients if isinstance(n, fx.Node)] + [p for n in late for p in n.all_input_nodes]
    kept = list(dict.fromkeys(n for n in used if n not in late))

    copies: dict[fx.Node, fx.Node] = {}
    first = fx.Graph()
    for node in nodes:
        if node.op != "output" and node not in late:
            copies[node] = first.node_copy(node, copies.__getitem__)
    first.output(fx.node.map_arg((outputs, g, kept), copies.__getitem__))

    second, copies = fx.Graph(), {}
    for i, node in enumerate(kept):
        copies[node] = second.placeholder(f"kept_{i}")
        copies[node].meta = node.meta
    for node in nodes:
        if node in late:
            copies[node] = second.node_copy(node, copies.__getitem__)
    second.output(fx.node.map_arg(gradients, copies.__getitem__))
    second.eliminate_dead_code()
    return fx.GraphModule(whole, first), fx.GraphModule(whole, second)


# --- dynamo -----------------------------------------------------------------------------------------------------------

_PROGRAMS: OrderedDict[tuple[int, Any], tuple[Any, Callable[..., Tensor]]] = OrderedDict()


def _program(critic: Callable[..., Tensor], backend: Any, **options: Any) -> Callable[..., Tensor]:
    """The critic under torch.compile, compiled once."""
    key = id(critic), backend
    if key not in _PROGRAMS:
        _PROGRAMS[key] = critic, torch.compile(critic, backend=backend, dynamic=False, **options)
        while len(_PROGRAMS) > KEPT:
            _PROGRAMS.popitem(last=False)
    _PROGRAMS.move_to_end(key)
    return _PROGRAMS[key][1]


def ordinary(critic: Callable[..., Tensor], backend: str) -> Callable[..., Tensor]:
    """The critic compiled as usual, for samples without a penalty."""
    return _program(critic, backend)


def _backend(network: fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
    """What dynamo calls with a graph; what it returns, dynamo calls with the inputs at every step."""
    compiled: dict[Any, _Graphs] = {}

    def run(*inputs: Any) -> Any:
        request = _Request.current
        if request is None:
            return network(*inputs)
        wants = tuple(isinstance(t, Tensor) and t.requires_grad for t in inputs)
        key = wants, request.backend
        if key not in compiled:
            compiled[key] = _Graphs(network, inputs, request.x, request.backend)
        graphs = request.graphs = compiled[key]
        with torch.no_grad():
            request.outputs, request.g, request.kept = graphs.early(*inputs)
        request.weights = [t for t, want in zip(inputs, wants, strict=True) if want]
        return request.outputs

    return run
