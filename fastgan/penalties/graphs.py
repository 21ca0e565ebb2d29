"""F, X, T and W of a graph of operations, as two graphs cut where the loss comes in."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fastgan import allocation
from fastgan.affine import NotAffineError, record
from fastgan.penalties.one_pass import seed_of
from fastgan.penalties.programs import CompilerError, NotNowError, check_modes, compiling, in_short

aten = torch.ops.aten


class Graphs:
    """The two compiled graphs of one network at one set of shapes.

    Attributes:
        output: which of the network's outputs is the critic's; others are attributes that its code sets.
        tracked: which of the outputs autograd would know.
        wants: which of the inputs want a gradient, and gives: which of these get one.
        of_inputs, of_outputs: pairs (i, j): what is kept at i lies in the memory of input, or output, j.
        views: which of the outputs lie in the memory of an input.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        output: int | None,
        inputs: Sequence[Any],
        x: Tensor,
        backend: str,
        tell: Callable[[str], None],
    ) -> None:
        place = next((i for i, t in enumerate(inputs) if t is x), None)
        if place is None or output is None:
            raise NotAffineError("the output does not depend on the input")
        self.place, self.output = place, output
        if any(p.requires_grad for p in network.parameters()):
            raise CompilerError("the compiler takes parameters for constants")
        self.wants = [isinstance(t, Tensor) and t.requires_grad and t is not x for t in inputs]
        self.seed = 1.0
        self.tracked: list[bool] = []
        cut = _Cut(self._trace(network, inputs), len(inputs), sum(self.wants))
        self.of_inputs, self.of_outputs, self.gives = cut.of_inputs, cut.of_outputs, cut.gives
        self.views = cut.views
        self._early, self._late = (_Part(g, x.device.type, backend, tell) for g in (cut.early, cut.late))

    def early(self, inputs: Sequence[Any]) -> tuple[list[Any], Tensor, list[Tensor]]:
        """F and X: the outputs, the gradient with respect to x, and what is kept for `late`."""
        found = list(self._early(*inputs))
        n = len(self.tracked)
        return found[:n], found[n], found[n + 1 :]

    def late(self, kept: Sequence[Tensor], u: Tensor, s: Tensor) -> list[Tensor | None]:
        """T and W: the gradient of each input that wants one."""
        found = iter(self._late(*kept, u, s))
        return [next(found) if given else None for given in self.gives]

    def _trace(self, network: fx.GraphModule, inputs: Sequence[Any]) -> fx.GraphModule:
        """(inputs, u, s) -> the network's outputs, g, and the gradient of each input that wants one, as one graph."""
        from torch.fx.experimental.proxy_tensor import make_fx

        def step(inputs: list[Any], u: Tensor, s: Tensor) -> Any:
            leaves = [t.detach().requires_grad_() if want else t for t, want in zip(inputs, self.wants, strict=True)]
            outputs: Sequence[Any] = ()

            def run(x: Tensor) -> Tensor:
                nonlocal outputs
                outputs = network.forward(*(x if i == self.place else t for i, t in enumerate(leaves)))
                self.tracked = [isinstance(o, Tensor) and o.requires_grad for o in outputs]
                return outputs[self.output]

            y, tape = record(run, leaves[self.place], plain=True)
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

        x = inputs[self.place].detach()
        given = [x if i == self.place else t for i, t in enumerate(inputs)]
        s = x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        if x.device.type == "cpu":
            allocation.keep_freed_memory()  # in earnest, before the tape does it while it is traced
        with torch.enable_grad():
            return make_fx(step, tracing_mode="fake", _allow_non_fake_inputs=True)(given, torch.empty_like(x), s)


def returned(network: fx.GraphModule) -> int | None:
    """Which output is the critic's (`programs._call` marks it by an alias, which is taken out); None for a constant."""
    (outputs,) = next(node for node in network.graph.nodes if node.op == "output").args
    for i, node in enumerate(outputs):
        if isinstance(node, fx.Node) and node.target is aten.alias.default:
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
            network.graph.erase_node(node)
            network.recompile()
            return i
    return None


class _Part:
    """A graph as the backend compiles it when it is first called, or by itself where that fails."""

    def __init__(self, graph: fx.GraphModule, device: str, backend: str, tell: Callable[[str], None]) -> None:
        self.graph, self.device, self.backend, self.tell = graph, device, backend, tell
        self._run: Callable[..., Any] | None = None

    def __call__(self, *args: Tensor) -> Sequence[Any]:
        """Without autograd, and without autocast, whose casts are in the graph."""
        with torch.no_grad(), torch.autocast(self.device, enabled=False):
            if self._run is None:
                try:
                    check_modes()
                except NotNowError:
                    return self.graph.forward(*args)
                with compiling():
                    self._run = self._compiled(args)
            return self._run(*args)

    def _compiled(self, args: Sequence[Tensor]) -> Callable[..., Any]:
        from torch._dynamo.backends.registry import lookup_backend

        try:
            own = fx.GraphModule(self.graph, copy.deepcopy(self.graph.graph))  # which backends rewrite
            return lookup_backend(self.backend)(own, list(args))
        except Exception as error:
            self.tell(in_short(error))
            return self.graph.forward


class _Cut:
    """A graph (inputs, u, s) -> (outputs, g, gradients) in two: what does not depend on u and s, and the rest."""

    def __init__(self, whole: fx.GraphModule, inputs: int, weights: int) -> None:
        self.nodes = list(whole.graph.nodes)
        self.at = {node: i for i, node in enumerate(self.nodes)}
        if any(isinstance(n.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)) for n in self.nodes):
            raise CompilerError("the critic reads a number out of a tensor")
        placeholders = [n for n in self.nodes if n.op == "placeholder"]
        self.is_late = set(placeholders[inputs:])
        for node in self.nodes:
            if node.op not in ("placeholder", "output") and any(p in self.is_late for p in node.all_input_nodes):
                self.is_late.add(node)
        self.writes = self._writes()
        results = list(next(n for n in self.nodes if n.op == "output").args[0])
        outputs, g, gradients = results[: -weights - 1], results[-weights - 1], results[len(results) - weights :]
        self.gives = [isinstance(n, fx.Node) for n in gradients]
        read = [n for n in gradients if isinstance(n, fx.Node)] + [p for n in self.is_late for p in n.all_input_nodes]
        originals = {node: self._original(node) for node in dict.fromkeys(read) if node not in self.is_late}
        kept = list(dict.fromkeys(originals.values()))
        self.of_inputs = _shared(kept, placeholders[:inputs])
        for i, _ in self.of_inputs:
            if any(at > self.at[kept[i]] for at in self.writes.get(_memory(kept[i]), ())):
                raise CompilerError("the critic's forward changes a tensor in place of which it has made a weight")
        self.of_outputs = _shared(kept, outputs)
        self.views = {i for i, _ in _shared(outputs, placeholders[:inputs])}
        self.early = self._early(whole, [*outputs, g, *kept])
        self.late = self._late(whole, kept, originals, [n for n in gradients if isinstance(n, fx.Node)])

    def _writes(self) -> dict[Any, list[int]]:
        """Where each tensor's memory is written to."""
        found: dict[Any, list[int]] = {}
        for i, node in enumerate(self.nodes):
            schema = getattr(node.target, "_schema", None)
            for place, argument in enumerate(schema.arguments if schema else ()):
                if argument.alias_info is None or not argument.alias_info.is_write:
                    continue
                given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
                for written in given if isinstance(given, (list, tuple)) else (given,):
                    if isinstance(written, fx.Node):
                        found.setdefault(_memory(written), []).append(i)
        return found

    def _original(self, node: fx.Node) -> fx.Node:
        """What a copy was made of, if nobody writes to that: the recorder copies every constant."""
        while node.target in (aten.clone.default, aten.detach.default) and len(node.args) == 1 and not node.kwargs:
            source: Any = node.args[0]
            same = source.meta["val"].stride() == node.meta["val"].stride()
            if not same or _memory(source) in self.writes or _memory(node) in self.writes:
                break
            node = source
        return node

    def _early(self, whole: fx.GraphModule, results: Any) -> fx.GraphModule:
        graph, copies = fx.Graph(), {}  # type: ignore[var-annotated]
        for node in self.nodes:
            if node.op != "output" and node not in self.is_late:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(fx.node.map_arg(results, copies.__getitem__))
        for node in reversed(graph.nodes):
            if node.target is aten.clone.default and not node.users:
                graph.erase_node(node)
        return fx.GraphModule(whole, graph)

    def _late(
        self, whole: fx.GraphModule, kept: list[fx.Node], originals: dict[fx.Node, fx.Node], gradients: list[Any]
    ) -> fx.GraphModule:
        graph, copies = fx.Graph(), {}
        for i, node in enumerate(kept):
            copies[node] = graph.placeholder(f"kept_{i}")
            copies[node].meta = node.meta
        copies.update({node: copies[original] for node, original in originals.items()})
        for node in self.nodes:
            if node in self.is_late:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(fx.node.map_arg(gradients, copies.__getitem__))
        graph.eliminate_dead_code()
        return fx.GraphModule(whole, graph)


def _memory(node: Any) -> Any:
    """Tells apart the memory that nodes' tensors lie in; None for what is no tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else None


def _shared(these: Sequence[Any], others: Sequence[Any]) -> list[tuple[int, int]]:
    """The pairs of places that lie in the same memory."""
    places: dict[Any, list[int]] = {}
    for j, other in enumerate(others):
        if _memory(other) is not None:
            places.setdefault(_memory(other), []).append(j)
    return [(i, j) for i, node in enumerate(these) for j in places.get(_memory(node), ())]
